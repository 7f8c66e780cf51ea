//! A real nats-server with the real permissions, provisioned as an installation is, on loopback and in a folder of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bus::config::AuditConfig;
use bus::{Bus, BusConfig, StreamSizes};
use proto::Component;
use provision::{ServerSettings, StreamPlan, make_keys, make_streams};
use tempfile::TempDir;

use crate::owner::Owner;

/// A server that lives as long as this value.
pub struct Server {
    dir: TempDir,
    port: u16,
    monitor: u16,
    child: Child,
}

impl Server {
    /// Starts and provisions a server.
    pub async fn start() -> Self {
        Self::start_with(&StreamSizes::default()).await
    }

    /// As [`Server::start`], with other stream sizes.
    pub async fn start_with(sizes: &StreamSizes) -> Self {
        let server = Self::start_empty();
        server.provision(sizes).await.expect("streams");
        server
    }

    /// Runs `provision streams` against the server; tells what it made.
    pub async fn provision(&self, sizes: &StreamSizes) -> anyhow::Result<String> {
        make_streams(&StreamPlan { sizes: *sizes, ..self.plan() }).await
    }

    /// What the one-shot `provision` is told.
    pub fn plan(&self) -> StreamPlan {
        StreamPlan {
            bus: self.url(),
            monitor: format!("127.0.0.1:{}", self.monitor),
            keys: self.keys(Component::Provision),
            archive: self.dir.path().join("archive"),
            sizes: StreamSizes::default(),
        }
    }

    /// A server with keys and no streams, as before the first start.
    pub fn start_empty() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let (port, monitor) = (free_port(), free_port());
        let settings = ServerSettings {
            listen: format!("127.0.0.1:{port}"),
            monitor: format!("127.0.0.1:{monitor}"),
            store: dir.path().join("bus-data").display().to_string(),
            ..ServerSettings::default()
        };
        make_keys(dir.path(), &settings).expect("keys");
        let child = spawn(dir.path());
        Self { dir, port, monitor, child }
    }

    /// Somebody owns the machine that the server runs on: it is restarted with a user who may do everything.
    pub async fn taken_over(&mut self) -> Owner {
        self.kill();
        let path = self.dir.path().join("bus/nats.conf");
        let config = std::fs::read_to_string(&path).expect("the server's settings");
        let config = config.replacen("users: [", "users: [\n      { user: owner, password: owner }", 1);
        std::fs::remove_file(&path).expect("the settings can be replaced");
        std::fs::write(&path, config).expect("the settings can be replaced");
        self.start_again();
        Owner::new(&self.url()).await
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The folder that `nachos provision keys` filled.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder with a component's keys, as it is mounted at `/keys`.
    pub fn keys(&self, component: Component) -> PathBuf {
        self.dir.path().join(component.as_str())
    }

    /// How a component reaches the server.
    pub fn config(&self, component: Component) -> BusConfig {
        BusConfig { url: self.url(), seed: self.keys(component).join("bus.nk"), connect_seconds: 10 }
    }

    /// Connects as a component.
    pub async fn connect(&self, component: Component) -> Bus {
        let config = self.config(component);
        Bus::connect(component, &config, AuditConfig::default()).await.expect("a connection to the bus")
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same store and port.
    pub fn start_again(&mut self) {
        self.child = spawn(self.dir.path());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The nats-server binary that `./nachos test` put in place.
pub fn nats_server() -> PathBuf {
    let cached = || {
        let home = std::env::var("HOME").unwrap_or_default();
        PathBuf::from(home).join(".cache/nachos/bin/nats-server")
    };
    std::env::var("NACHOS_NATS_SERVER").map_or_else(|_| cached(), PathBuf::from)
}

fn spawn(dir: &Path) -> Child {
    let program = nats_server();
    let log = std::fs::File::options().create(true).append(true).open(dir.join("server.log")).expect("a log file");
    Command::new(&program)
        .arg("-c")
        .arg(dir.join("bus/nats.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}; run the tests by ./nachos test", program.display()))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
