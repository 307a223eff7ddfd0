//! Label values as bytes, each with the series that have it.
//!
//! ```text
//! page of label values: for each value in order
//!   bytes in common with the value before, the rest of it
//!   number of series; of one series its place, of more the page, offset and length of their postings
//! ```

use crate::codec::Malformed;
use crate::codec::bytes::{Cursor, put_bytes, put_u64};

/// Which series have a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Postings {
    One(u32),
    /// A roaring bitmap of `count` series in a page of postings.
    Many {
        count: u32,
        page: u32,
        offset: u32,
        len: u32,
    },
}

impl Postings {
    pub fn count(&self) -> u32 {
        match self {
            Postings::One(_) => 1,
            Postings::Many { count, .. } => *count,
        }
    }
}

/// Appends `value` after `before`, the value before it in the page.
pub(super) fn put_value(out: &mut Vec<u8>, before: &str, value: &str, postings: Postings) {
    let common = before.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
    put_u64(out, common as u64);
    put_bytes(out, &value.as_bytes()[common..]);
    put_u64(out, u64::from(postings.count()));
    match postings {
        Postings::One(series) => put_u64(out, u64::from(series)),
        Postings::Many { page, offset, len, .. } => {
            [page, offset, len].into_iter().for_each(|number| put_u64(out, u64::from(number)));
        }
    }
}

/// A page of label values, ready to be looked into.
#[derive(Debug)]
pub(super) struct ValuesPage {
    text: String,
    /// Where each value ends in the text, and its series.
    entries: Vec<(u32, Postings)>,
}

impl ValuesPage {
    pub fn parse(bytes: &[u8]) -> Result<ValuesPage, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let mut text = Vec::new();
        let mut entries = Vec::new();
        let mut before = 0..0;
        while !cursor.is_empty() {
            let common = cursor.at_most(before.len())?;
            let begin = text.len();
            text.extend_from_within(before.start..before.start + common);
            text.extend_from_slice(cursor.bytes()?);
            if text.len() > TEXT_BYTES_MAX {
                return Err(Malformed("too much text in a page of label values"));
            }
            before = begin..text.len();
            let postings = match cursor.u32()? {
                1 => Postings::One(cursor.u32()?),
                count => {
                    let (page, offset, len) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
                    Postings::Many { count, page, offset, len }
                }
            };
            entries.push((text.len() as u32, postings));
        }
        let not_text = Malformed("label values are not UTF-8");
        let text = String::from_utf8(text).map_err(|_| not_text)?;
        if !entries.iter().all(|(end, _)| text.is_char_boundary(*end as usize)) {
            return Err(not_text);
        }
        Ok(ValuesPage { text, entries })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn value(&self, at: usize) -> Option<&str> {
        let begin = at.checked_sub(1).map_or(Some(0), |before| Some(self.entries.get(before)?.0))?;
        self.text.get(begin as usize..self.entries.get(at)?.0 as usize)
    }

    pub fn postings(&self, at: usize) -> Option<Postings> {
        self.entries.get(at).map(|(_, postings)| *postings)
    }

    pub fn bytes(&self) -> usize {
        self.text.len() + self.entries.len() * size_of::<(u32, Postings)>()
    }
}

/// Bound on the text of one page after what values have in common was repeated.
const TEXT_BYTES_MAX: usize = 8 << 20;
