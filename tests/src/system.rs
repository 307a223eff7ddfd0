//! A collector, a gateway and agents in one directory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::Api;
use crate::config::{ConfigFile, text};
use crate::ports::Port;
use crate::process::{Output, Service, binary, run};
use crate::wait::eventually;
use crate::{http, process};

/// How long a process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long a command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);

/// What [`System::new`] lays out. Nothing runs yet.
#[derive(Clone, Debug, Default)]
pub struct SystemOptions {
    /// Agents with a process of their own.
    pub agents: Vec<String>,
    /// Agents that only get a token.
    pub tokens: Vec<String>,
    /// Another directory of binaries for the collector and agents.
    pub bin_dir: Option<PathBuf>,
    /// Environment of the set-up, for certificates of another time.
    pub setup_env: Vec<(String, String)>,
}

/// An agent process and its files.
pub struct Agent {
    pub name: String,
    pub process: Service,
    pub config: ConfigFile,
    pub config_file: PathBuf,
    /// Where its log files are; `*.log*` is followed.
    pub logs: PathBuf,
    pub queue: PathBuf,
}

/// The whole system. On a failed test its directory is kept and the ends of
/// its logs are printed; everything is killed on drop in any case.
pub struct System {
    pub dir: PathBuf,
    pub collector: Service,
    pub collector_config: ConfigFile,
    pub gateway: Service,
    pub gateway_config: ConfigFile,
    pub agents: Vec<Agent>,
    /// As the holder of the query token.
    pub api: Api,
    mesh: Port,
    health: Port,
    http: Port,
    is_kept: bool,
}

impl System {
    /// Lays out a system with these agents. Configurations are in files; a
    /// test that changes one calls [`write_configs`](Self::write_configs).
    ///
    /// # Panics
    ///
    /// When a binary is missing or the directory cannot be made.
    pub fn new(agents: &[&str]) -> System {
        let agents = agents.iter().map(|name| (*name).to_owned()).collect();
        System::with(SystemOptions { agents, ..SystemOptions::default() })
    }

    /// As [`new`](Self::new), with all options.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn with(options: SystemOptions) -> System {
        let dir = tempfile::Builder::new()
            .prefix("lm-test-")
            .tempdir()
            .expect("the temporary directory is writable");
        let dir = dir.keep();
        let own_binary = |name: &str| match &options.bin_dir {
            Some(bin_dir) => process::binary_in(bin_dir, name),
            None => binary(name),
        };
        let mut setup: Vec<String> =
            options.setup_env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        setup.push(own_binary("lm-collector").display().to_string());
        setup.extend(["setup", "--dir"].map(str::to_owned));
        setup.push(dir.display().to_string());
        setup.extend(["--name", "localhost", "--name", "127.0.0.1"].map(str::to_owned));
        for name in options.agents.iter().chain(&options.tokens) {
            setup.extend(["--agent".to_owned(), name.clone()]);
        }
        run(Path::new("/usr/bin/env"), &setup, COMMAND_WITHIN).expect_code(0);
        fs::create_dir(dir.join("process-logs")).expect("the directory is ours");

        let (mesh, health, http) = (Port::reserve(), Port::reserve(), Port::reserve());
        let service = |name: &str, program: PathBuf, args: Vec<std::ffi::OsString>| {
            Service::new(name, program, args, dir.join("process-logs").join(name))
        };
        let collector_file = dir.join("server.toml");
        let gateway_file = dir.join("gateway.toml");
        let api = Api {
            addr: ([127, 0, 0, 1], http.number).into(),
            token: fs::read_to_string(dir.join("query-token")).expect("setup made it").trim().to_owned(),
        };
        let agents = options
            .agents
            .iter()
            .map(|name| {
                let home = dir.join("agents").join(name);
                let (logs, queue) = (home.join("logs"), home.join("queue"));
                fs::create_dir_all(&logs).expect("the directory is ours");
                let config_file = home.join("agent.toml");
                let args = vec!["--daemon".into(), config_file.clone().into()];
                Agent {
                    name: name.clone(),
                    process: service(&format!("agent-{name}"), own_binary("lm-agent"), args),
                    config: agent_config(&dir, name, &logs, &queue, mesh.number),
                    config_file,
                    logs,
                    queue,
                }
            })
            .collect();
        let system = System {
            collector: service("collector", own_binary("lm-collector"), vec![collector_file.into()]),
            collector_config: collector_config(&dir, mesh.number, health.number),
            gateway: service("gateway", binary("lm-gateway"), vec![gateway_file.into()]),
            gateway_config: gateway_config(&dir, http.number, mesh.number),
            agents,
            api,
            mesh,
            health,
            http,
            is_kept: false,
            dir,
        };
        system.write_configs();
        system
    }

    pub fn write_configs(&self) {
        self.collector_config.write(&self.dir.join("server.toml"));
        self.gateway_config.write(&self.dir.join("gateway.toml"));
        for agent in &self.agents {
            agent.config.write(&agent.config_file);
        }
    }

    /// Starts everything and waits until it is ready, agents included.
    #[track_caller]
    pub fn start(&mut self) {
        self.collector.start();
        self.gateway.start();
        for agent in &mut self.agents {
            agent.process.start();
        }
        self.wait_ready();
        for agent in &self.agents {
            self.wait_agent(&agent.name);
        }
    }

    /// Waits for the collector and for a gateway with a session.
    #[track_caller]
    pub fn wait_ready(&self) {
        self.wait_collector();
        eventually("the gateway is ready", READY_WITHIN, || self.probe(self.http.number));
    }

    #[track_caller]
    pub fn wait_collector(&self) {
        eventually("the collector is ready", READY_WITHIN, || self.probe(self.health.number));
    }

    /// Waits for a session of the agent's present run, and for a sample. A
    /// sample alone may be of an earlier run, with this one not begun yet.
    #[track_caller]
    pub fn wait_agent(&self, name: &str) {
        let agent = self.agents.iter().find(|agent| agent.name == name).expect("the test names its agents");
        eventually("the agent opens a session", READY_WITHIN, || {
            let log = agent.process.log_of_run();
            if log.contains("session opened") { Ok(()) } else { Err(log) }
        });
        self.wait_samples(name);
    }

    /// Waits for a sample of an agent, of whichever run and whoever started it.
    #[track_caller]
    pub fn wait_samples(&self, name: &str) {
        let expression = format!("lmagent_up{{instance=\"{name}\"}}");
        eventually("the agent's samples arrive", READY_WITHIN, || self.api.value(&expression));
    }

    fn probe(&self, port: u16) -> Result<(), String> {
        let response =
            http::get(([127, 0, 0, 1], port).into(), "/readyz", None).map_err(|error| error.to_string())?;
        if response.status == 200 { Ok(()) } else { Err(format!("{} {}", response.status, response.body)) }
    }

    #[track_caller]
    pub fn agent(&mut self, name: &str) -> &mut Agent {
        self.agents.iter_mut().find(|agent| agent.name == name).expect("the test names its agents")
    }

    /// Where agents and gateways connect.
    pub fn mesh_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.mesh.number).into()
    }

    pub fn health_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.health.number).into()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The API with another token.
    pub fn api_with(&self, token_file: &str) -> Api {
        let token = fs::read_to_string(self.dir.join(token_file)).expect("setup made it");
        Api { token: token.trim().to_owned(), ..self.api.clone() }
    }

    /// Runs `lmctl` as the operator.
    #[track_caller]
    pub fn lmctl(&self, args: &[&str]) -> Output {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        all.extend(["--collector".to_owned(), self.mesh_addr().to_string()]);
        all.extend(["--ca".to_owned(), self.path("ca.pem").display().to_string()]);
        if !args.contains(&"--token-file") {
            all.extend(["--token-file".to_owned(), self.path("operator-token").display().to_string()]);
        }
        run(&binary("lmctl"), &all, COMMAND_WITHIN)
    }

    /// Keeps the directory although nothing panics.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        [&self.collector, &self.gateway].into_iter().chain(self.agents.iter().map(|agent| &agent.process))
    }

    /// The ends of all logs.
    pub fn tails(&self) -> String {
        self.services().map(|service| format!("==== {}\n{}\n", service.name, service.tail())).collect()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.collector.kill();
        self.gateway.kill();
        for agent in &mut self.agents {
            agent.process.kill();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
            self.is_kept = true;
        }
        if self.is_kept || std::env::var_os("LM_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn collector_config(dir: &Path, mesh: u16, health: u16) -> ConfigFile {
    let mut config = ConfigFile::default();
    config
        .set_text("ingest.listen", format_args!("127.0.0.1:{mesh}"))
        .set_path("ingest.tls.certificate_file", &dir.join("tls/fullchain.pem"))
        .set_path("ingest.tls.key_file", &dir.join("tls/key.pem"))
        .set_path("auth.agent_tokens_file", &dir.join("ingest-tokens.toml"))
        .set_path("auth.gateway_token_file", &dir.join("gateway-token"))
        .set_path("auth.query_token_file", &dir.join("query-token"))
        .set_path("auth.write_token_file", &dir.join("write-token"))
        .set_path("auth.operator_token_file", &dir.join("operator-token"))
        .set_path("operator.socket", &dir.join("operator.sock"))
        .set_path("storage.dir", &dir.join("collector"))
        .set_text("health.listen", format_args!("127.0.0.1:{health}"));
    config
}

fn gateway_config(dir: &Path, http: u16, mesh: u16) -> ConfigFile {
    let mut config = ConfigFile::default();
    config
        .set_text("listen", format_args!("127.0.0.1:{http}"))
        .set("collector.endpoints", format_args!("[{}]", text(format_args!("127.0.0.1:{mesh}"))))
        .set_path("collector.tls_ca_cert_file", &dir.join("ca.pem"))
        .set_path("collector.auth_token_file", &dir.join("gateway-token"))
        .set_text("health.listen", "");
    config
}

fn agent_config(dir: &Path, name: &str, logs: &Path, queue: &Path, mesh: u16) -> ConfigFile {
    let mut config = ConfigFile::default();
    config
        .set_text("agent_id", name)
        .set("collector.endpoints", format_args!("[{}]", text(format_args!("127.0.0.1:{mesh}"))))
        .set_path("collector.tls_ca_cert_file", &dir.join("ca.pem"))
        .set_path("collector.auth_token_file", &dir.join(format!("token-{name}")))
        .set_path("queue.dir", queue)
        .set_text("metrics.interval", "1s")
        .set("logs.files", format_args!("[{}]", text(logs.join("*.log*").display())))
        .set_text("logs.from", "start")
        .set_text("health.listen", "");
    config
}

/// Agents with a process, and agents with only a token.
pub fn system_options(agents: &[&str], tokens: &[&str]) -> SystemOptions {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    SystemOptions { agents: owned(agents), tokens: owned(tokens), ..SystemOptions::default() }
}
