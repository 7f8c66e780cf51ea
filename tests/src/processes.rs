//! The platform as real processes: the shipped binaries on a real server, each with a file of settings, so that a test can kill
//! one, start it again and look at what it uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::Component;

use crate::Server;
use crate::fakes::slack::{APP_TOKEN, BOT_TOKEN};
use crate::platform::{repository, tools_dir};

/// How long a service may take to come up on a busy machine.
const START: Duration = Duration::from_secs(30);

/// How often it is looked whether a service is up: finer than what the start is measured in.
const LOOK: Duration = Duration::from_millis(1);

/// The kernel counts CPU time for `/proc` in this many ticks a second (`USER_HZ`, fixed on x86-64).
const TICKS: u64 = 100;

/// Services as processes; they are killed when this value is dropped.
pub struct Stack {
    bus: String,
    folder: PathBuf,
    services: BTreeMap<Component, Service>,
}

/// One service: where its files are, and its process while it runs.
struct Service {
    config: PathBuf,
    health: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

struct Process {
    child: Child,
    started: Instant,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// CPU time since its start, in steps of 10 ms.
    pub cpu: Duration,
}

impl Stack {
    /// No service yet, on this server. The server must live longer.
    pub fn new(server: &Server) -> Self {
        Self { bus: server.url(), folder: server.dir().to_owned(), services: BTreeMap::new() }
    }

    /// Policy, tools, models (offline unless `models` says otherwise) and the gateway, all ready.
    pub async fn start_core(&mut self, models: &str) {
        let core = [
            (Component::Policy, ""),
            (Component::ToolsWasm, ""),
            (Component::LlmProxy, models),
            (Component::Gateway, ""),
        ];
        for (component, settings) in core {
            self.start(component, settings);
        }
        for (component, _) in core {
            self.ready(component).await;
        }
    }

    /// Starts a service with more settings than its paths: top-level keys first, then tables.
    pub fn start(&mut self, component: Component, settings: &str) {
        let folder = self.folder.join("processes").join(component.as_str());
        fs::create_dir_all(&folder).expect("a folder for the service");
        let file = |name: &str| folder.join(name);
        let service =
            Service { config: file("config.toml"), health: file("health.json"), log: file("log"), process: None };
        let keys = self.folder.join(component.as_str());
        let common = format!(
            "[bus]\nurl = '{}'\nseed = '{}'\n[health]\nfile = '{}'\n",
            self.bus,
            keys.join("bus.nk").display(),
            service.health.display()
        );
        let paths = paths(component, &keys, &folder);
        fs::write(&service.config, format!("{paths}\n{settings}\n{common}")).expect("the settings");
        self.services.insert(component, service);
        self.start_again(component);
    }

    /// `kill -9`.
    pub fn kill(&mut self, component: Component) {
        if let Some(mut process) = self.service_mut(component).process.take() {
            process.child.kill().expect("it can be killed");
            process.child.wait().expect("its end");
        }
    }

    /// Starts it again on the same files.
    pub fn start_again(&mut self, component: Component) {
        let service = self.service_mut(component);
        // What the killed one left must not make the new one look ready.
        let _gone = fs::remove_file(&service.health);
        service.process = Some(Process { child: spawn(component, service), started: Instant::now() });
    }

    /// Waits until the service says that it is ready; how long it took from its start.
    pub async fn ready(&mut self, component: Component) -> Duration {
        let until = Instant::now() + START;
        while !self.service(component).health.exists() {
            let process = self.service_mut(component).process.as_mut().expect("it was started");
            let ended = process.child.try_wait().expect("its state");
            assert!(ended.is_none(), "{component} ended ({ended:?}):\n{}", self.log(component));
            assert!(Instant::now() < until, "{component} is not ready:\n{}", self.log(component));
            tokio::time::sleep(LOOK).await;
        }
        self.service(component).process.as_ref().map_or(START, |process| process.started.elapsed())
    }

    /// What the service has logged, over all its starts.
    pub fn log(&self, component: Component) -> String {
        fs::read_to_string(&self.service(component).log).unwrap_or_default()
    }

    /// The process id of a running service.
    pub fn pid(&self, component: Component) -> u32 {
        self.service(component).process.as_ref().expect("it runs").child.id()
    }

    /// What a running service uses.
    pub fn usage(&self, component: Component) -> Usage {
        usage(self.pid(component))
    }

    /// The services that were started.
    pub fn components(&self) -> Vec<Component> {
        self.services.keys().copied().collect()
    }

    fn service(&self, component: Component) -> &Service {
        self.services.get(&component).unwrap_or_else(|| panic!("{component} was never started"))
    }

    fn service_mut(&mut self, component: Component) -> &mut Service {
        self.services.get_mut(&component).unwrap_or_else(|| panic!("{component} was never started"))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for process in self.services.values_mut().filter_map(|service| service.process.as_mut()) {
            let _killed = process.child.kill();
            let _ended = process.child.wait();
        }
    }
}

/// What a process uses, as the kernel says.
pub fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name stands in parentheses and may hold anything; behind it the fields are counted from the third.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS);
    Usage { resident: kilobytes * 1024, cpu }
}

/// The folder with the services' binaries.
pub fn binaries() -> PathBuf {
    std::env::var("NACHOS_BIN").map_or_else(|_| beside_this_test(), PathBuf::from)
}

/// Tests run from `<target>/…/release/deps`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("this program's path");
    test.ancestors().nth(2).expect("the release folder").to_owned()
}

fn spawn(component: Component, service: &Service) -> Child {
    let program = binaries().join(component.as_str());
    let log = fs::File::options().create(true).append(true).open(&service.log).expect("a log file");
    Command::new(&program)
        .arg("--config")
        .arg(&service.config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}; run the tests by ./nachos test", program.display()))
}

/// The settings that differ from an installation: where things are.
fn paths(component: Component, keys: &Path, data: &Path) -> String {
    let (keys, shown, tools) = (keys.display(), data.display(), tools_dir());
    let tools = tools.display();
    match component {
        Component::Policy => format!(
            "policies = '{}'\ntools = ['{tools}']\npermit_key = '{keys}/permit.key'\norigins = '{keys}/origins.json'",
            repository().join("policy/policies").display()
        ),
        Component::ToolsWasm => {
            format!("tools = ['{tools}']\nprecompiled = ['{tools}']\npermit_key = '{keys}/permit.pub'")
        }
        Component::LlmProxy => format!("secrets = '{shown}'"),
        Component::Audit => {
            for folder in ["checkpoints", "archive"] {
                fs::create_dir_all(format!("{shown}/{folder}")).expect("a folder");
            }
            format!(
                "data = '{shown}'\ncheckpoint_key = '{keys}/checkpoint.key'\ncheckpoints = '{shown}/checkpoints'\narchive = '{shown}/archive'"
            )
        }
        Component::Gateway => format!("database = '{shown}/gateway.db'"),
        Component::ChannelSlack => {
            for (name, token) in [("app-token", APP_TOKEN), ("bot-token", BOT_TOKEN)] {
                fs::write(data.join(name), token).expect("a token");
            }
            format!(
                "origin_key = '{keys}/origin.key'\napp_token = '{shown}/app-token'\nbot_token = '{shown}/bot-token'"
            )
        }
        Component::ChannelWeb => {
            format!("checkpoint_key = '{keys}/checkpoint.pub'\nlisten = '127.0.0.1:{}'", crate::server::free_port())
        }
        Component::Forwarder => String::new(),
        Component::Cli | Component::Provision => panic!("{component} is no service"),
    }
}
