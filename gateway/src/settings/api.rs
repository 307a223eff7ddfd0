//! `[api]`: where the API lies, and which pages of other origins may use it.

use lm_settings::{Section, Value, units};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiSettings {
    /// Begins with `/` and ends without; empty: none.
    pub path_prefix: String,
    /// As browsers send them in `Origin`, or `*`.
    pub cors_origins: Vec<String>,
}

impl ApiSettings {
    pub(super) fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("path_prefix", &mut self.path_prefix, path_prefix);
        from.read("cors_origins", &mut self.cors_origins, origins);
        from.finish();
    }
}

fn path_prefix(value: &Value<'_>) -> Result<String, String> {
    let expected = "expected \"\" or a path such as \"/prometheus\"";
    let text = value.as_str().ok_or_else(|| expected.to_owned())?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
    let is_path = text.starts_with('/') && !text.ends_with('/') && !text.contains("//");
    if text.is_empty() || (is_path && text.chars().all(is_plain)) {
        return Ok(text.to_owned());
    }
    Err(expected.to_owned())
}

fn origins(value: &Value<'_>) -> Result<Vec<String>, String> {
    let is_origin = |text: &str| {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', ' ', '*', '?', '#']);
        text == "*" || (host.is_some_and(is_host) && !text.contains(|c: char| c.is_ascii_uppercase()))
    };
    let found = units::texts(value)?;
    match found.iter().find(|origin| !is_origin(origin)) {
        Some(origin) => Err(format!(
            "expected \"*\" or origins as browsers send them, such as \"https://grafana.example.org\", not {origin:?}"
        )),
        None => Ok(found),
    }
}
