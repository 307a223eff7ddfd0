//! Whatever the bytes are: no panic, an end, and bounded output.

use lm_exposition::{Entry, Format, Limits, Reader};
use proptest::prelude::*;

const FORMATS: [Format; 3] = [Format::PrometheusText, Format::OpenMetricsText, Format::Protobuf];
const LIMITS: Limits = Limits { line_bytes_max: 200, labels_max: 5, samples_max: 50, native_buckets_max: 8 };

/// Reads to the end or the first mistake, and once more.
fn read(format: Format, bytes: &[u8]) -> (usize, usize) {
    let mut reader = Reader::new(format, bytes, LIMITS);
    let (mut entries, mut samples) = (0, 0);
    while let Ok(Some(entry)) = reader.next() {
        entries += 1;
        if let Entry::Sample(sample) = entry {
            samples += 1;
            assert!(!sample.name.is_empty());
            // A bound comes on top of a metric's own labels.
            assert!(sample.labels.len() <= LIMITS.labels_max + 1);
            assert!(!sample.value.is_nan() || sample.value.to_bits() == f64::NAN.to_bits());
            assert!(sample.labels.iter().all(|label| !label.name.is_empty() && label.name != "__name__"));
        }
    }
    let _ = reader.next();
    (entries, samples)
}

/// Text that is nearly right.
fn nearly_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("# HELP ".to_owned()),
        Just("# TYPE ".to_owned()),
        Just("# EOF".to_owned()),
        Just(" counter".to_owned()),
        Just(" histogram".to_owned()),
        Just("a_bucket".to_owned()),
        Just("{le=\"1\"}".to_owned()),
        Just("{\"a.b\",c=\"\\\"\\n\"}".to_owned()),
        Just(" # {".to_owned()),
        Just("\n".to_owned()),
        Just(" 1".to_owned()),
        Just(" NaN".to_owned()),
        "[a-z{}\"\\\\,= #\n0-9.]{1,8}",
        any::<String>(),
    ];
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

/// Bytes that look like fields of protobuf.
fn nearly_protobuf() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        (1..16_u8, any::<u8>()).prop_map(|(number, value)| vec![number << 3, value & 0x7f]),
        (1..16_u8, any::<[u8; 8]>()).prop_map(|(number, value)| [&[number << 3 | 1][..], &value].concat()),
        (1..16_u8, "[a-z]{0,5}").prop_map(|(number, text)| delimited(number, text.as_bytes())),
    ];
    let message = leaf.prop_recursive(4, 64, 6, |inner| {
        (1..16_u8, prop::collection::vec(inner, 0..6))
            .prop_map(|(number, fields)| delimited(number, &fields.concat()))
    });
    prop::collection::vec(prop::collection::vec(message, 0..6), 0..6).prop_map(|families| {
        families
            .into_iter()
            .flat_map(|fields| {
                let family = [delimited(1, b"name"), fields.concat()].concat();
                [&varint(family.len())[..], &family].concat()
            })
            .collect()
    })
}

fn varint(value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(value as u64, &mut bytes);
    bytes
}

fn delimited(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len()), bytes].concat()
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in FORMATS {
            let (entries, samples) = read(format, &bytes);
            prop_assert!(entries <= bytes.len() + 1 && samples <= LIMITS.samples_max);
        }
    }

    #[test]
    fn text_that_is_nearly_right(text in nearly_text()) {
        for format in [Format::PrometheusText, Format::OpenMetricsText] {
            let (entries, samples) = read(format, text.as_bytes());
            prop_assert!(entries <= text.len() && samples <= LIMITS.samples_max);
        }
    }

    #[test]
    fn protobuf_that_is_nearly_right(bytes in nearly_protobuf()) {
        let (_, samples) = read(Format::Protobuf, &bytes);
        prop_assert!(samples <= LIMITS.samples_max);
    }

    /// What is written right is read as it was meant.
    #[test]
    fn what_is_written_is_read(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,9}",
        label in "[a-zA-Z][a-zA-Z0-9_]{0,9}",
        text in "\\PC{0,9}",
        value in any::<f64>().prop_filter("a number", |value| !value.is_nan()),
        time in -1_000_000_000_000_i64..4_000_000_000_000,
    ) {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let seconds = format!("{}{}.{:03}", if time < 0 { "-" } else { "" }, time.abs() / 1000, time.abs() % 1000);
        for (format, time_text, end) in
            [(Format::PrometheusText, time.to_string(), ""), (Format::OpenMetricsText, seconds, "# EOF\n")]
        {
            let line = format!("{name}{{{label}=\"{escaped}\"}} {value:e} {time_text}\n{end}");
            let mut reader = Reader::new(format, line.as_bytes(), LIMITS);
            let Ok(Some(Entry::Sample(sample))) = reader.next() else { panic!("{line}") };
            prop_assert_eq!(sample.name, &name);
            prop_assert_eq!(&sample.labels[0].value, &text);
            prop_assert_eq!(&sample.labels[0].name, &label);
            prop_assert_eq!(sample.value, value);
            prop_assert_eq!(sample.time_unix_ms, Some(time));
            prop_assert_eq!(reader.next(), Ok(None));
        }
    }
}
