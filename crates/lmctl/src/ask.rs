//! `lmctl ask`: questions to one agent, through the collector.

use std::time::Duration;

use clap::{Args, Subcommand};
use lm_schema::operator::{AgentAnswer, AgentStatus};
use serde::Serialize;

use crate::duration;
use crate::escape::cell;
use crate::failure::{EXIT_NOT_ALLOWED, EXIT_SOFTWARE, EXIT_TEMPORARY, EXIT_UNAVAILABLE, Failure};
use crate::link::{Link, answer_within, patience};
use crate::output::{Out, age, padded, size};

#[derive(Args)]
pub struct AskArgs {
    #[command(subcommand)]
    command: AskCommand,
}

#[derive(Subcommand)]
enum AskCommand {
    /// What it says of itself: version, configuration, queue
    Status {
        /// The agent's identity, as 'lmctl sessions' lists it
        name: String,
    },
    /// Makes it send what is queued now, without waiting out a retry
    Flush {
        /// The agent's identity, as 'lmctl sessions' lists it
        name: String,
        /// How long to wait for an empty queue, 10 at most
        #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = duration::parse_period)]
        wait: Duration,
    },
}

#[derive(Serialize)]
struct StatusDocument {
    agent: String,
    #[serde(flatten)]
    status: AgentStatus,
}

#[derive(Serialize)]
struct FlushDocument {
    agent: String,
    pending_batches: u64,
}

pub async fn run(link: &Link, args: &AskArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.command {
        AskCommand::Status { name } => {
            let mut request = link.operator().agent_status_request();
            request.get().set_identity(&name[..]);
            let response = answer_within(patience(), request.send().promise).await?;
            match AgentAnswer::read(response.get()?.get_answer()?)? {
                AgentAnswer::Status(status) => {
                    out.show(&StatusDocument { agent: name.clone(), status }, |shown| table(&shown.status))
                }
                other => Err(refused(name, other)),
            }
        }
        AskCommand::Flush { name, wait } => {
            let mut request = link.operator().flush_agent_request();
            request.get().set_identity(&name[..]);
            request.get().set_wait_ms(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
            let response = answer_within(patience() + *wait, request.send().promise).await?;
            match AgentAnswer::read(response.get()?.get_answer()?)? {
                AgentAnswer::PendingBatches(pending_batches) => {
                    out.show(&FlushDocument { agent: name.clone(), pending_batches }, |shown| {
                        match shown.pending_batches {
                            0 => format!("{name} has sent all that was queued\n"),
                            pending => format!("{name} still has {pending} batches to send\n"),
                        }
                    })
                }
                other => Err(refused(name, other)),
            }
        }
    }
}

fn refused(name: &str, answer: AgentAnswer) -> Failure {
    match answer {
        AgentAnswer::NotConnected => Failure {
            code: EXIT_UNAVAILABLE,
            message: format!("{name} has no session with the collector"),
            advice: "'lmctl sessions' lists who has; an agent that is denied has none.",
        },
        AgentAnswer::NotAllowed => Failure {
            code: EXIT_NOT_ALLOWED,
            message: format!("{name} does not let its collector ask"),
            advice: "Set collector.control = true in the agent's configuration and restart it. If that is so, \
                     the capability was revoked: the agent's next session brings another.",
        },
        AgentAnswer::Failed(said) => {
            let code = if said.starts_with("overloaded:") { EXIT_TEMPORARY } else { EXIT_UNAVAILABLE };
            Failure::new(code, format!("{name}: {said}"))
        }
        AgentAnswer::Status(_) | AgentAnswer::PendingBatches(_) => {
            Failure::new(EXIT_SOFTWARE, "the collector answered another question")
        }
    }
}

fn table(status: &AgentStatus) -> String {
    let config: String = status.config_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = [
        ("version", status.version.clone()),
        ("configuration", config),
        ("up", age(i64::try_from(status.uptime_ms).unwrap_or(i64::MAX))),
        (
            "queued",
            format!(
                "{} of {} ({} batches)",
                size(status.queue_pending_bytes),
                size(status.queue_capacity_bytes),
                status.queue_pending_batches
            ),
        ),
        ("sent", format!("{} batches", status.sent_batches)),
        ("dropped", format!("{} items", status.dropped_items)),
        ("reconnects", status.reconnects.to_string()),
    ];
    lines.iter().map(|(name, text)| format!("{}{}\n", padded(name, 15), cell(text, 80))).collect()
}
