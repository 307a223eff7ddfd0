//! Writes the Rust of every `schema/*.capnp` to a folder, by default
//! `schema/src/generated`. Run it through `scripts/regen-schema.sh`.

mod interfaces;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

const FILES: [&str; 6] = ["batch", "mesh", "operator", "query", "queue", "spool"];

fn main() -> anyhow::Result<()> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("codegen lives in schema/")?;
    let output = match std::env::args_os().nth(1) {
        Some(folder) => PathBuf::from(folder),
        None => schema.join("src/generated"),
    };
    std::fs::create_dir_all(&output).with_context(|| format!("create {}", output.display()))?;
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(schema).output_path(&output).default_parent_module(vec!["generated".to_owned()]);
    for file in FILES {
        command.file(schema.join(format!("{file}.capnp")));
    }
    let raw = tempfile::NamedTempFile::new().context("create a temporary file")?;
    command.raw_code_generator_request_path(raw.path());
    if let Err(error) = command.run() {
        bail!("capnp failed: {error}; is the `capnp` tool installed (Debian: capnproto)?");
    }
    let request = capnp::serialize::read_message(
        std::io::BufReader::new(std::fs::File::open(raw.path()).context("read the compiler's request")?),
        capnp::message::ReaderOptions::new(),
    )?;
    let table = output.join("interfaces.rs");
    std::fs::write(&table, interfaces::table(request.get_root()?)?)
        .with_context(|| format!("write {}", table.display()))?;
    println!("{}", table.display());
    for file in FILES {
        println!("{}", output.join(format!("{file}_capnp.rs")).display());
    }
    Ok(())
}
