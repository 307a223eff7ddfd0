//! `lmctl agent`: who may send, on the collector's own host. It edits the
//! table of tokens and makes the collector read it again.
//!
//! A token is made here, stays in the table as its digest, and leaves in a
//! bundle: through a file or standard output, never as an argument.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lm_enrol::{AGENTS_FILE, Access, AgentsTable, Bundle, CA_FILE, CONFIG_DIR, ENDPOINT_FILE, Files};
use serde::Serialize;

use crate::Connection;
use crate::failure::{EXIT_CONFIG, EXIT_SOFTWARE, EXIT_UNAVAILABLE, Failure};
use crate::link::{Link, SOCKET};
use crate::output::{Out, table as aligned};
use crate::reload::reload;

/// The operator's socket in a directory that is not the host's own.
const SOCKET_FILE: &str = "collector.sock";

#[derive(Args)]
pub struct AgentArgs {
    /// The collector's configuration directory
    #[arg(long, default_value = CONFIG_DIR, global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Gives a new host its token, and prints the two commands for it
    #[command(after_help = "\
Examples:
  lmctl agent add web-1
  lmctl agent add web-1 --bundle - | ssh root@web-1 lm-agent setup --bundle -
  lmctl agent add web-1 --endpoint 10.0.0.1:4433 --server-name mon.example.com")]
    Add(AddArgs),
    /// Takes a host's token away, and ends its session
    Remove {
        /// The agent's name
        name: String,
    },
    /// The names of all agents that have a token
    List,
}

#[derive(Args)]
struct AddArgs {
    /// The agent's name: its series and lines carry it as `instance`
    name: String,
    /// Where the bundle goes; - is standard output [default: NAME.bundle, here]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Where the new host reaches the collector, as host:port; repeatable
    /// [default: what lm-collector setup was told]
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    endpoints: Vec<String>,
}

/// What the operator does next.
#[derive(Serialize)]
struct Added {
    agent: String,
    bundle: PathBuf,
    /// For the new host.
    commands: [String; 2],
}

#[derive(Serialize)]
struct Agent {
    name: String,
}

#[derive(Serialize)]
struct Agents {
    agents: Vec<Agent>,
}

pub async fn run(args: AgentArgs, connection: Connection, out: &mut Out) -> Result<(), Failure> {
    let AgentArgs { dir, command } = args;
    match command {
        AgentCommand::Add(args) => {
            let bundle = add(&dir, &args, connection.server_name.clone())?;
            read_again(&dir, connection).await?;
            hand_over(&bundle, args, out)
        }
        AgentCommand::Remove { name } => {
            let mut files = Files::default();
            if !table(&dir, &mut files)?.remove(&name, &mut files)? {
                return Err(Failure {
                    code: EXIT_SOFTWARE,
                    message: format!("there is no agent {name:?}"),
                    advice: "'lmctl agent list' shows all.",
                });
            }
            read_again(&dir, connection).await?;
            out.line(&format!("agent {name} has no token any more"))
        }
        AgentCommand::List => {
            let names = table(&dir, &mut Files::default())?.names();
            let agents = Agents { agents: names.into_iter().map(|name| Agent { name }).collect() };
            out.show(&agents, |found| {
                let rows: Vec<_> = found.agents.iter().map(|agent| vec![agent.name.clone()]).collect();
                aligned(&["AGENT"], &rows)
            })
        }
    }
}

fn table(dir: &Path, files: &mut Files) -> Result<AgentsTable, Failure> {
    let path = dir.join(AGENTS_FILE);
    if !path.exists() {
        return Err(Failure {
            code: EXIT_UNAVAILABLE,
            message: format!("{} is missing", path.display()),
            advice: "This command is for the collector's host, after 'lm-collector setup'. --dir names another \
                     directory.",
        });
    }
    Ok(AgentsTable::open(&path, Access::Owner, files)?)
}

/// Puts a new token into the table; the bundle is on disk before that.
fn add(dir: &Path, args: &AddArgs, server_name: Option<String>) -> Result<Bundle, Failure> {
    let name = &args.name;
    lm_enrol::check_name(name)?;
    let mut files = Files::default();
    let mut table = table(dir, &mut files)?;
    if table.names().contains(name) {
        return Err(Failure {
            code: EXIT_SOFTWARE,
            message: format!("agent {name} has a token already"),
            advice: "For a new one, take the old one away with 'lmctl agent remove' first.",
        });
    }
    let read = |file: &str| {
        let path = dir.join(file);
        fs::read_to_string(&path).map_err(|error| lm_enrol::Error::Read { path, error })
    };
    let endpoints = match &args.endpoints[..] {
        [] => vec![read(ENDPOINT_FILE)?.trim().to_owned()],
        given => given.to_vec(),
    };
    let token = lm_enrol::token()?;
    let bundle = Bundle { agent_id: name.clone(), endpoints, server_name, token, ca: read(CA_FILE)? };
    // Whatever was typed, the new host will be able to read it.
    Bundle::parse(Path::new("the bundle"), &bundle.text())?;
    let file = args.file();
    if let Some(file) = &file
        && !files.write_missing(file, &bundle.text(), Access::Owner)?
    {
        return Err(Failure {
            code: EXIT_SOFTWARE,
            message: format!("{} is there already", file.display()),
            advice: "Name another file with --bundle, or - for standard output.",
        });
    }
    if let Err(error) = table.add(name, &lm_enrol::sha256_hex(&bundle.token), &mut files) {
        // A bundle that opens nothing helps nobody.
        let _ = file.map(fs::remove_file);
        return Err(error.into());
    }
    Ok(bundle)
}

impl AddArgs {
    /// The bundle's file; `None` is standard output.
    fn file(&self) -> Option<PathBuf> {
        match &self.bundle {
            Some(file) if file == Path::new("-") => None,
            Some(file) => Some(file.clone()),
            None => Some(format!("{}.bundle", self.name).into()),
        }
    }
}

/// Makes the collector read the table. One that does not run reads it when it
/// starts.
async fn read_again(dir: &Path, mut connection: Connection) -> Result<(), Failure> {
    if connection.collector.is_none() && connection.socket.is_none() {
        let own = dir.join(SOCKET_FILE);
        let socket = if own.exists() { own } else { SOCKET.into() };
        connection.socket = Some(socket);
    }
    let link = match Link::open(connection).await {
        Ok(link) => link,
        Err(failure) if failure.code == EXIT_UNAVAILABLE => {
            eprintln!("lmctl: no collector answers here; it reads its table of agents when it starts");
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let parts = reload(&link).await;
    link.close().await;
    match parts?.iter().find(|part| part.name == "tokens" && !part.error.is_empty()) {
        None => Ok(()),
        Some(part) => Err(Failure {
            code: EXIT_CONFIG,
            message: format!("the collector did not take the table: {}", part.error),
            advice: "Correct that, then 'lmctl reload'.",
        }),
    }
}

fn hand_over(bundle: &Bundle, args: AddArgs, out: &mut Out) -> Result<(), Failure> {
    let name = &bundle.agent_id;
    let start = "systemctl enable --now lm-agent".to_owned();
    let Some(file) = args.file() else {
        let mut to = io::stdout().lock();
        to.write_all(bundle.text().as_bytes()).and_then(|()| to.flush()).map_err(Failure::from_output)?;
        eprintln!("lmctl: agent {name} has a token; when lm-agent setup has read it: {start}");
        return Ok(());
    };
    let base = file.file_name().unwrap_or_default().to_string_lossy();
    let commands = [format!("lm-agent setup --bundle {base}"), start];
    let added = Added { agent: name.clone(), bundle: file.clone(), commands };
    out.show(&added, |added| {
        let [setup, start] = &added.commands;
        format!(
            "Agent {name} has a token. It is in {file}, a secret: copy that file to {name}\n\
             (scp {file} root@{name}:) and delete it here. Then, on {name}, as root:\n\n  {setup}\n  {start}\n",
            file = file.display()
        )
    })
}

impl From<lm_enrol::Error> for Failure {
    fn from(error: lm_enrol::Error) -> Self {
        Failure::new(error.exit_code(), error.to_string())
    }
}
