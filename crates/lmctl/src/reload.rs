//! `lmctl reload`.

use lm_schema::operator::{ReloadedPart, read_list};
use serde::Serialize;

use crate::failure::{EXIT_CONFIG, Failure};
use crate::link::{Link, answer};
use crate::output::{Out, or_dash, table as aligned};

#[derive(Serialize)]
struct Document {
    parts: Vec<ReloadedPart>,
}

/// Makes the collector read its files again, and says what became of it.
pub async fn reload(link: &Link) -> Result<Vec<ReloadedPart>, Failure> {
    let response = answer(link.operator().reload_request().send().promise).await?;
    Ok(read_list(response.get()?.get_parts()?, ReloadedPart::read)?)
}

pub async fn run(link: &Link, out: &mut Out) -> Result<(), Failure> {
    let parts = reload(link).await?;
    let failed = parts.iter().filter(|part| !part.error.is_empty()).count();
    out.show(&Document { parts }, |found| table(&found.parts))?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure {
            code: EXIT_CONFIG,
            message: "not everything could be reloaded".to_owned(),
            advice: "What failed keeps working as it was before. Correct it and reload again.",
        }),
    }
}

fn table(parts: &[ReloadedPart]) -> String {
    let row = |part: &ReloadedPart| {
        let result = if part.error.is_empty() { "in force" } else { "kept as it was" };
        let detail = if part.error.is_empty() { &part.changes } else { &part.error };
        vec![part.name.clone(), result.to_owned(), or_dash(detail)]
    };
    aligned(&["PART", "RESULT", "DETAIL"], &parts.iter().map(row).collect::<Vec<_>>())
}
