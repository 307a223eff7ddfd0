//! Label names and values on their way into the file, and which series have them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::block::error::Error;
use crate::block::format::PAIR_BYTES_MAX;

/// Label pairs that a block may have.
const PAIRS_MAX: usize = 1 << 28;

#[derive(Debug, Default)]
pub(super) struct Symbols {
    names: HashMap<Arc<str>, u32>,
    /// By number of the name.
    values: Vec<HashMap<Arc<str>, u32>>,
    /// By number of the pair.
    pub pairs: Vec<PairEntry>,
}

#[derive(Debug)]
pub(super) struct PairEntry {
    /// Number of the name.
    pub name_at: u32,
    pub name: Arc<str>,
    pub value: Arc<str>,
    /// Ascending.
    pub series: Vec<u32>,
}

impl Symbols {
    pub fn pair(&mut self, name: &str, value: &str) -> Result<u32, Error> {
        let name_at = match self.names.get(name) {
            Some(at) => *at,
            None => {
                let at = self.values.len() as u32;
                self.names.insert(name.into(), at);
                self.values.push(HashMap::new());
                at
            }
        };
        let values = &mut self.values[name_at as usize];
        if let Some(pair) = values.get(value) {
            return Ok(*pair);
        }
        if name.len() + value.len() > PAIR_BYTES_MAX {
            return Err(Error::Full { what: "bytes of a label", max: PAIR_BYTES_MAX as u64 });
        }
        if self.pairs.len() == PAIRS_MAX {
            return Err(Error::Full { what: "label pairs", max: PAIRS_MAX as u64 });
        }
        let pair = self.pairs.len() as u32;
        let text: Arc<str> = value.into();
        values.insert(text.clone(), pair);
        let name = self.names.get_key_value(name).expect("it was found or inserted above").0.clone();
        self.pairs.push(PairEntry { name_at, name, value: text, series: Vec::new() });
        Ok(pair)
    }

    pub fn text(&self, pair: u32) -> (&str, &str) {
        let pair = &self.pairs[pair as usize];
        (&pair.name, &pair.value)
    }
}
