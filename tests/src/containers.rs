//! A running stack as the engine and the kernel see it: its containers, its networks, and probes that stand where a container stands.

pub mod outside;

use std::process::{Command, Stdio};

use serde_json::Value;

/// The user and group that every container runs as.
pub const USER: &str = "10001:10001";

/// A running container of the project, as `docker inspect` tells it.
#[derive(Debug)]
pub struct Container {
    pub service: String,
    /// Started by `docker compose run`: nobody restarts it or asks for its health.
    pub one_off: bool,
    pub facts: Value,
}

impl Container {
    fn new(facts: Value) -> Self {
        let label = |name: &str| facts["Config"]["Labels"][name].as_str().unwrap_or_default().to_owned();
        let service = label("com.docker.compose.service");
        Self { service, one_off: label("com.docker.compose.oneoff") == "True", facts }
    }

    pub fn id(&self) -> &str {
        self.facts["Id"].as_str().expect("an id")
    }

    pub fn host(&self, setting: &str) -> &Value {
        &self.facts["HostConfig"][setting]
    }

    /// Names of the networks that it is on.
    pub fn networks(&self) -> Vec<String> {
        let networks = self.facts["NetworkSettings"]["Networks"].as_object().expect("networks");
        networks.keys().cloned().collect()
    }

    pub fn mounts(&self) -> &[Value] {
        self.facts["Mounts"].as_array().expect("mounts")
    }

    /// The main process's `/proc/<pid>/status`, a field of it.
    pub fn status(&self, field: &str) -> String {
        let pid = &self.facts["State"]["Pid"];
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the main process's status");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }

    /// Runs busybox in the container's own network namespace, with its resolver settings, and as confined as it is.
    pub fn probe(&self, image: &str, command: &[&str]) -> Said {
        probe(image, &["--network", &format!("container:{}", self.id())], command)
    }
}

/// What a probe said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub text: String,
}

/// The project that is looked at.
pub fn project() -> String {
    std::env::var("NACHOS_PROJECT").unwrap_or_else(|_| "nachos".to_owned())
}

/// Every running container of the project.
pub fn running() -> Vec<Container> {
    let project = project();
    let found = containers(&[]);
    assert!(
        !found.is_empty(),
        "no container of the project `{project}` runs: ./nachos up, or say another one in NACHOS_PROJECT"
    );
    found
}

/// Every container of the project, also those that have done their work.
pub fn all() -> Vec<Container> {
    containers(&["--all"])
}

fn containers(more: &[&str]) -> Vec<Container> {
    let label = format!("label=com.docker.compose.project={}", project());
    let list = docker(&[&["ps", "--quiet", "--no-trunc", "--filter", &label], more].concat());
    assert!(list.ok, "docker ps: {}", list.text);
    let mut found: Vec<_> =
        list.text.split_whitespace().filter_map(|id| inspect("container", id)).map(Container::new).collect();
    found.sort_by(|one, other| one.service.cmp(&other.service));
    found
}

/// What the engine knows of something; nothing if it just went away.
pub fn inspect(kind: &str, name: &str) -> Option<Value> {
    let said = docker(&[kind, "inspect", name]);
    let list: Value = said.ok.then(|| serde_json::from_str(&said.text).expect("JSON of docker inspect"))?;
    list.get(0).cloned()
}

/// Runs busybox from `image` once, as confined as the services are.
pub fn probe(image: &str, options: &[&str], command: &[&str]) -> Said {
    let confined =
        ["run", "--rm", "--user", USER, "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    docker(&[&confined, options, &["--pull", "never", "--entrypoint", "busybox", image], command].concat())
}

/// The `docker` command line; both of its outputs.
pub fn docker(arguments: &[&str]) -> Said {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().expect("the docker command");
    let text = if output.status.success() { output.stdout } else { [output.stdout, output.stderr].concat() };
    Said { ok: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}
