//! Configuration files, built key by key.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// A TOML file as sections of keys; the section `""` comes first.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile(BTreeMap<String, BTreeMap<String, String>>);

impl ConfigFile {
    /// Sets `section.key` to TOML: a number, `true`, or what [`text`] makes.
    pub fn set(&mut self, key: &str, toml: impl Display) -> &mut Self {
        let (section, key) = key.rsplit_once('.').unwrap_or(("", key));
        self.0.entry(section.to_owned()).or_default().insert(key.to_owned(), toml.to_string());
        self
    }

    pub fn set_text(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.set(key, text(value))
    }

    pub fn set_path(&mut self, key: &str, value: &Path) -> &mut Self {
        self.set_text(key, value.display())
    }

    /// Writes the file.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn write(&self, path: &Path) {
        let mut out = String::new();
        for (section, keys) in &self.0 {
            if !section.is_empty() {
                out.push_str(&format!("\n[{section}]\n"));
            }
            for (key, value) in keys {
                out.push_str(&format!("{key} = {value}\n"));
            }
        }
        std::fs::write(path, out).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// A TOML string.
pub fn text(value: impl Display) -> String {
    format!("\"{}\"", value.to_string().replace('\\', "\\\\").replace('"', "\\\""))
}
