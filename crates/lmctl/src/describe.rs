//! `lmctl describe`.

use clap::Args;
use lm_schema::operator::{InterfaceFacts, read_list};
use serde::Serialize;

use crate::escape::printable;
use crate::failure::{EXIT_SOFTWARE, Failure};
use crate::link::{Link, answer};
use crate::output::{Out, table as aligned};

#[derive(Args)]
pub struct DescribeArgs {
    /// Its methods; without it, all interfaces
    interface: Option<String>,
}

#[derive(Serialize)]
struct Document {
    interfaces: Vec<InterfaceFacts>,
}

pub async fn run(link: &Link, args: &DescribeArgs, out: &mut Out) -> Result<(), Failure> {
    let mut request = link.operator().describe_request();
    request.get().set_name(args.interface.as_deref().unwrap_or(""));
    let response = answer(request.send().promise).await?;
    let interfaces = read_list(response.get()?.get_interfaces()?, InterfaceFacts::read)?;
    if let (Some(name), true) = (&args.interface, interfaces.is_empty()) {
        return Err(Failure {
            code: EXIT_SOFTWARE,
            message: format!("the collector has no interface {name:?}"),
            advice: "'lmctl describe' lists them.",
        });
    }
    let is_one = args.interface.is_some();
    out.show(&Document { interfaces }, |found| match is_one {
        true => found.interfaces.iter().map(definition).collect(),
        false => list(&found.interfaces),
    })
}

fn list(interfaces: &[InterfaceFacts]) -> String {
    let row = |interface: &InterfaceFacts| {
        let methods: Vec<&str> = interface.methods.iter().map(|method| &method.name[..]).collect();
        vec![interface.name.clone(), methods.join(" ")]
    };
    aligned(&["INTERFACE", "METHODS"], &interfaces.iter().map(row).collect::<Vec<_>>())
}

/// As in the schema.
fn definition(interface: &InterfaceFacts) -> String {
    let mut text = format!("interface {} @0x{:016x} {{\n", printable(&interface.name), interface.id);
    text.push_str(&comment(&interface.doc, "  "));
    for method in &interface.methods {
        let signature = printable(&method.signature);
        text.push_str(&format!("  {} @{} {signature};\n", printable(&method.name), method.ordinal));
        text.push_str(&comment(&method.doc, "    "));
    }
    text.push_str("}\n");
    text
}

fn comment(doc: &str, indent: &str) -> String {
    doc.lines().map(|line| format!("{indent}# {}\n", printable(line))).collect()
}
