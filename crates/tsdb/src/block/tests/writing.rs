use lm_fs::fault::Fault;

use super::*;

fn files(fs: &FaultFs) -> Vec<PathBuf> {
    fs.files()
}

#[test]
fn what_breaks_the_promises_of_add_is_refused() {
    let fs = FaultFs::new(0);
    let mut writer = BlockWriter::create(&fs, &path("block"), Compression::Fast).expect("the disk works");
    let one = Samples { times: vec![1], values: vec![1.0], histograms: Vec::new() };
    writer.add(&labels(&[("b", "1")]), &one).expect("it is the first");
    let refused = |writer: &mut BlockWriter<FaultFs>, labels: &Labels, samples: &Samples| {
        writer.add(labels, samples).expect_err("it breaks a promise").to_string()
    };
    let text = refused(&mut writer, &labels(&[("b", "1")]), &one);
    assert_eq!(text, "series {b=\"1\"}: it does not come after the series before it");
    assert!(refused(&mut writer, &labels(&[("a", "9")]), &one).contains("does not come after"));
    assert!(refused(&mut writer, &Labels::empty(), &one).contains("does not come after"));
    let backwards = Samples { times: vec![2, 2], values: vec![1.0, 1.0], histograms: Vec::new() };
    assert!(refused(&mut writer, &labels(&[("c", "1")]), &backwards).contains("times do not ascend"));
    let (b, c) = (writer.pair("b", "2").expect("it is short"), writer.pair("c", "1").expect("it is short"));
    assert!(
        writer.add_pairs(&[c, b], &one).expect_err("names descend").to_string().contains("do not ascend")
    );
    assert!(writer.pair("x", &"v".repeat(70_000)).is_err());
    // After what was refused the writer goes on.
    writer.add_pairs(&[b, c], &one).expect("it is the second");
    writer.finish(&meta(1)).expect("the disk works");
    let block = open(&fs, 0).expect("it was written above");
    assert_eq!(block.series_count(), 2);
    assert_eq!(block.labels(1).expect("the block is sound"), labels(&[("b", "2"), ("c", "1")]));
}

#[test]
fn a_writer_that_is_dropped_leaves_no_file() {
    let fs = FaultFs::new(0);
    let mut writer = BlockWriter::create(&fs, &path("block"), Compression::Fast).expect("the disk works");
    for (labels, samples) in &model(1, 3, 10) {
        writer.add(labels, samples).expect("the disk works");
    }
    assert_eq!(files(&fs), [path("block.tmp")]);
    drop(writer);
    assert!(files(&fs).is_empty());
}

#[test]
fn a_left_over_file_is_overwritten_and_a_block_is_not() {
    let fs = FaultFs::new(0);
    fs.put(&path("block.tmp"), b"left over");
    let model = model(1, 3, 10);
    write(&fs, &path("block"), &meta(1), Compression::Fast, &model).expect("the disk works");
    let before = fs.contents(&path("block"));
    let error =
        write(&fs, &path("block"), &meta(2), Compression::Fast, &model).expect_err("the name is taken");
    assert!(matches!(error, Error::Io { action: "create", .. }), "{error}");
    assert_eq!(fs.contents(&path("block")), before);
    assert_eq!(files(&fs), [path("block")]);
}

/// Whatever operation fails, and wherever the power is cut: there is no block, or all of it.
#[test]
fn a_block_is_there_as_a_whole_or_not_at_all() {
    let model = model(2, 4, 30);
    let clean = FaultFs::new(0);
    write(&clean, &path("block"), &meta(1), Compression::Small, &model).expect("the disk works");
    let whole = clean.contents(&path("block")).expect("it was written above");
    for operation in 0..clean.operations() {
        for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            let fs = FaultFs::new(operation);
            fs.fail_at(operation, fault);
            let outcome = write(&fs, &path("block"), &meta(1), Compression::Small, &model);
            assert!(outcome.is_ok() || fault != Fault::ShortWrite, "short writes are gone on with");
            if let Some(contents) = fs.contents(&path("block")) {
                assert_eq!(contents, whole, "operation {operation}, {fault:?}");
            }
            fs.crash(operation);
            match fs.contents(&path("block")) {
                Some(contents) => assert_eq!(contents, whole, "operation {operation}, {fault:?}"),
                None => {
                    assert!(outcome.is_err(), "operation {operation}, {fault:?}: it was said to be there")
                }
            }
        }
    }
}

#[test]
fn equal_content_makes_equal_bytes() {
    let model = model(3, 10, 100);
    let bytes = || {
        let fs = FaultFs::new(0);
        write(&fs, &path("block"), &meta(1), Compression::Small, &model).expect("the disk works");
        fs.contents(&path("block"))
    };
    assert_eq!(bytes(), bytes());
}
