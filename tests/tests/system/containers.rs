//! The running stack, container by container: what the kernel and the engine say about each, against what compose.yaml promises.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};

use serde_json::Value;
use system_tests::containers::outside::{Listener, answer_names};
use system_tests::containers::{Container, USER, all, docker, inspect, probe, project, running};

/// The services that may use the network with a way out.
const OUTWARD: [&str; 3] = ["llm-proxy", "channel-slack", "forwarder"];

/// The one whose port a browser on this machine reaches, by a network that gives no address outside.
const FRONT: &str = "channel-web";

/// The services that live on the bus alone.
fn lives_inside(container: &&Container) -> bool {
    !OUTWARD.contains(&container.service.as_str()) && container.service != FRONT
}

/// The services that do their work once; they have no health and are not restarted.
const ONE_SHOT: [&str; 2] = ["provision", "provision-keys"];

/// What a fact is called, and how it is checked: an error says what was found instead.
type Fact = (&'static str, fn(&Container) -> Result<(), String>);

const FACTS: [Fact; 17] = [
    ("user", |c| equal(&c.facts["Config"]["User"], &USER.into())),
    ("read-only", |c| equal(c.host("ReadonlyRootfs"), &true.into())),
    ("no caps", no_capabilities),
    ("no new privs", |c| {
        holds(texts(c.host("SecurityOpt")).contains(&"no-new-privileges:true"), c.host("SecurityOpt"))
    }),
    ("seccomp", |c| {
        holds(!texts(c.host("SecurityOpt")).iter().any(|o| o.contains("unconfined")), c.host("SecurityOpt"))
    }),
    ("unprivileged", |c| equal(c.host("Privileged"), &false.into())),
    ("pids", |c| holds(c.host("PidsLimit").as_i64().is_some_and(|n| n > 0), c.host("PidsLimit"))),
    ("memory", memory_is_limited),
    ("cpus", |c| holds(c.host("NanoCpus").as_i64().is_some_and(|n| n > 0), c.host("NanoCpus"))),
    ("namespaces", namespaces_are_its_own),
    ("no devices", |c| {
        ["Devices", "DeviceRequests", "DeviceCgroupRules"].iter().try_for_each(|kind| empty(c.host(kind)))
    }),
    ("mounts", mounts_are_narrow),
    ("no ports", nothing_is_published),
    ("no secret env", environment_is_innocent),
    ("restart", |c| holds(stands(c) != (c.host("RestartPolicy")["Name"] == "unless-stopped"), c.host("RestartPolicy"))),
    ("health", |c| {
        holds(stands(c) || c.facts["Config"]["Healthcheck"]["Test"].is_array(), &c.facts["Config"]["Healthcheck"])
    }),
    ("kernel", the_kernel_agrees),
];

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn every_container_is_locked_down() {
    let containers = running();
    let mut wrong = Vec::new();
    let head: Vec<_> = FACTS.iter().map(|(name, _)| *name).collect();
    println!("{:<14} {}", project(), head.join(" | "));
    for container in &containers {
        let row: Vec<_> = FACTS.iter().map(|fact| (fact, fact.1(container))).collect();
        let cells: Vec<_> = row.iter().map(|((name, _), found)| cell(name, found.is_ok())).collect();
        println!("{:<14} {}", container.service, cells.join(" | "));
        let bad = row
            .into_iter()
            .filter_map(|((name, _), found)| Some(format!("{}: {name}: {}", container.service, found.err()?)));
        wrong.extend(bad);
    }
    println!(
        "{} containers x {} facts = {} checks, {} wrong",
        containers.len(),
        FACTS.len(),
        containers.len() * FACTS.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn every_component_that_the_main_job_needs_runs() {
    let services: BTreeSet<_> = running().into_iter().map(|container| container.service).collect();
    for service in ["bus", "gateway", "policy", "tools-wasm", "audit", "channel-web", "llm-proxy"] {
        assert!(services.contains(service), "{service} is missing in {services:?}");
    }
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn only_those_named_are_on_a_network_that_is_not_internal() {
    for container in running() {
        for name in container.networks() {
            let network = inspect("network", &name).unwrap();
            println!("{:<14} {name} internal={}", container.service, network["Internal"]);
            if network["Internal"] == true {
                continue;
            }
            if container.service == FRONT {
                assert_eq!(name, format!("{}_front", project()));
                let options = &network["Options"];
                assert_eq!(
                    options["com.docker.network.bridge.enable_ip_masquerade"], "false",
                    "{name} gives addresses outside"
                );
                continue;
            }
            assert!(
                OUTWARD.contains(&container.service.as_str()),
                "{} is on {name}, which is not internal",
                container.service
            );
            assert_eq!(name, format!("{}_outward", project()));
            assert_eq!(
                network["Options"]["com.docker.network.bridge.enable_icc"], "false",
                "strangers on {name} see each other"
            );
        }
    }
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn nothing_outside_is_reached_from_inside() {
    let (containers, image) = (running(), bus_image());
    let outward = inspect("network", &format!("{}_outward", project())).expect("the network outward");
    let host = Listener::on(outward["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().parse().unwrap());
    let (ip, port) = (host.address.ip().to_string(), host.address.port().to_string());
    let call = ["nc", "-w", "3", &ip, &port];
    // The control: who is on the outward network gets through to the same place by the same means.
    let proxy = containers.iter().find(|container| container.service == "llm-proxy").expect("llm-proxy");
    let reached = proxy.probe(&image, &call);
    assert_eq!((reached.text.as_str(), host.count()), ("outside", 1), "the control fails: {reached:?}");

    for container in containers.iter().filter(lives_inside) {
        let service = &container.service;
        let greeting = container.probe(&image, &["nc", "-w", "2", "bus", "4222"]);
        assert!(
            greeting.text.starts_with("INFO "),
            "{service} does not reach the bus, so the probe proves nothing: {greeting:?}"
        );
        let answer = container.probe(&image, &call);
        assert!(!answer.ok && !answer.text.contains("outside"), "{service} reached {ip}:{port}: {answer:?}");
        println!("{service:<14} reaches the bus, does not reach {ip}:{port}: {}", answer.text.trim());
    }
    assert_eq!(host.count(), 1, "somebody inside reached the listener outside");
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn the_host_has_no_address_on_the_inner_networks() {
    let names: BTreeSet<_> = running().iter().flat_map(Container::networks).collect();
    for name in names {
        let network = inspect("network", &name).unwrap();
        let gateway: Option<IpAddr> = network["IPAM"]["Config"][0]["Gateway"].as_str().map(|ip| ip.parse().unwrap());
        let bound = gateway.map(|ip| TcpListener::bind((ip, 0)).is_ok());
        println!("{name}: gateway {gateway:?}, held by this machine: {bound:?}");
        assert!(
            network["Internal"] != true || bound != Some(true),
            "containers on {name} reach this machine at {gateway:?}"
        );
    }
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn no_outside_name_resolves_from_inside() {
    let image = bus_image();
    the_probe_can_resolve(&image);
    for container in running().iter().filter(lives_inside) {
        let service = &container.service;
        let known = container.probe(&image, &["nslookup", "bus"]);
        assert!(
            known.ok && known.text.contains("Name:"),
            "{service} does not resolve bus, so the probe proves nothing: {known:?}"
        );
        let foreign = container.probe(&image, &["nslookup", "example.com"]);
        // NXDOMAIN would be an answer from outside too: a way out for whoever writes data into names.
        let answered = foreign.text.contains("Name:") || foreign.text.contains("NXDOMAIN");
        assert!(!foreign.ok && !answered, "{service} resolves an outside name: {foreign:?}");
        println!(
            "{service:<14} resolves bus, not example.com: {}",
            foreign.text.trim().lines().last().unwrap_or_default()
        );
    }
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn only_the_bus_and_the_web_pages_listen() {
    let image = bus_image();
    for container in running() {
        let tables = container.probe(&image, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]);
        assert!(tables.ok, "{tables:?}");
        let ports: BTreeSet<_> = tables.text.lines().filter_map(listening).collect();
        println!("{:<14} listens on {ports:?}", container.service);
        let allowed = match container.service.as_str() {
            "bus" => BTreeSet::from([4222, 8222]),
            FRONT => BTreeSet::from([8080]),
            _ => BTreeSet::new(),
        };
        assert_eq!(ports, allowed, "{}", container.service);
    }
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn keys_and_secrets_are_mounted_by_their_owner_alone_and_nobody_else_can_read_them() {
    let (containers, image) = (all(), bus_image());
    let volumes = volumes_of_the_project();
    let services: BTreeSet<_> = containers.iter().map(|container| container.service.as_str()).collect();
    let mut files = 0;
    for volume in volumes.iter().filter(|name| name.ends_with("-keys") || name.ends_with("-secrets")) {
        let (owner, _) = volume.strip_prefix(&format!("{}_", project())).unwrap().rsplit_once('-').unwrap();
        let users: BTreeSet<_> = containers.iter().filter(|c| mounts(c, volume)).map(|c| c.service.as_str()).collect();
        let expected: BTreeSet<_> =
            [owner, "provision-keys"].into_iter().filter(|name| services.contains(name)).collect();
        assert_eq!(users, expected, "who mounts {volume}");
        let writers = containers.iter().filter(|c| !ONE_SHOT.contains(&c.service.as_str()) && writes(c, volume));
        assert_eq!(writers.count(), 0, "a service can write its own keys in {volume}");
        let found = files_in(&image, volume);
        println!("{volume}: mounted by {users:?}, {} files, mode 400, {USER}", found.len());
        assert!(volume.ends_with("-secrets") || !found.is_empty(), "{volume} is empty");
        for file in &found {
            assert!(file.starts_with(&format!("400 {USER} ")), "{volume}: {file}");
        }
        files += found.len();
    }
    assert!(files >= 8, "only {files} key files in {volumes:?}");
}

#[test]
#[ignore = "needs the running stack; ./nachos test runs it"]
fn the_server_knows_public_keys_only() {
    let mount = format!("{}_bus-config:/v:ro", project());
    let config = probe(&bus_image(), &["--network", "none", "-v", &mount], &["cat", "/v/nats.conf"]);
    assert!(config.ok && config.text.contains("nkey"), "{}", config.text);
    // A user's public key is U…, its seed SU….
    let words = config.text.split(|letter: char| !letter.is_ascii_alphanumeric());
    assert_eq!(words.filter(|word| word.len() > 50 && word.starts_with("SU")).count(), 0, "seeds in nats.conf");
}

fn equal(found: &Value, expected: &Value) -> Result<(), String> {
    holds(found == expected, found)
}

fn holds(good: bool, found: &Value) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("found {found}")) }
}

fn empty(found: &Value) -> Result<(), String> {
    let none = found.is_null()
        || found.as_array().is_some_and(Vec::is_empty)
        || found.as_object().is_some_and(serde_json::Map::is_empty);
    holds(none, found)
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether it stands aside from what long-running services must have.
fn stands(container: &Container) -> bool {
    container.one_off || ONE_SHOT.contains(&container.service.as_str())
}

fn no_capabilities(c: &Container) -> Result<(), String> {
    equal(c.host("CapDrop"), &serde_json::json!(["ALL"]))?;
    empty(c.host("CapAdd"))
}

/// Also with swap: keys in memory do not get onto the disk.
fn memory_is_limited(c: &Container) -> Result<(), String> {
    holds(c.host("Memory").as_i64().is_some_and(|bytes| bytes > 0), c.host("Memory"))?;
    equal(c.host("MemorySwap"), c.host("Memory"))
}

fn namespaces_are_its_own(c: &Container) -> Result<(), String> {
    for kind in ["PidMode", "IpcMode", "NetworkMode", "UTSMode", "UsernsMode"] {
        let mode = c.host(kind).as_str().unwrap_or_default();
        let borrowed = mode == "host" || (mode.starts_with("container:") && c.service != "provision");
        holds(!borrowed, c.host(kind))?;
    }
    Ok(())
}

/// Binds are read-only and never the engine's socket; what can be written is the container's own data.
fn mounts_are_narrow(c: &Container) -> Result<(), String> {
    for mount in c.mounts() {
        let (source, written) = (mount["Source"].as_str().unwrap_or_default(), mount["RW"] == true);
        let kinds: &[&str] = if c.service == "audit" { &["data", "archive", "checkpoints"] } else { &["data"] };
        let own = kinds.iter().any(|kind| mount["Name"] == format!("{}_{}-{kind}", project(), c.service));
        let engine = source.ends_with("docker.sock") || source.starts_with("/run") || source.starts_with("/var/run");
        holds(!engine && (!written || own || ONE_SHOT.contains(&c.service.as_str())), mount)?;
    }
    Ok(())
}

/// The web pages on this machine's loopback, and nothing else anywhere.
fn nothing_is_published(c: &Container) -> Result<(), String> {
    if c.service == FRONT {
        let bindings = c.host("PortBindings").as_object().into_iter().flatten();
        let mut places = bindings.flat_map(|(_, places)| places.as_array().cloned().unwrap_or_default());
        return holds(places.all(|place| place["HostIp"] == "127.0.0.1"), c.host("PortBindings"));
    }
    empty(c.host("PortBindings"))?;
    equal(c.host("PublishAllPorts"), &false.into())?;
    let ports = &c.facts["NetworkSettings"]["Ports"];
    holds(ports.as_object().is_none_or(|ports| ports.values().all(Value::is_null)), ports)
}

fn environment_is_innocent(c: &Container) -> Result<(), String> {
    let suspicious = ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "XOXB", "XAPP", "SK-"];
    let environment = &c.facts["Config"]["Env"];
    let innocent = |text: &str| !suspicious.iter().any(|word| text.to_ascii_uppercase().contains(word));
    holds(texts(environment).into_iter().all(innocent), environment)
}

/// What the main process really runs with, whatever the engine was told.
fn the_kernel_agrees(c: &Container) -> Result<(), String> {
    let ids = ["10001"; 4].join("\t");
    let expected = [
        ("Uid", ids.as_str()),
        ("Gid", &ids),
        ("CapInh", NO_CAPS),
        ("CapPrm", NO_CAPS),
        ("CapEff", NO_CAPS),
        ("CapBnd", NO_CAPS),
        ("CapAmb", NO_CAPS),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ];
    for (field, value) in expected {
        let found = c.status(field);
        holds(found == value, &format!("{field}: {found}").into())?;
    }
    Ok(())
}

/// An empty set in `/proc/<pid>/status`.
const NO_CAPS: &str = "0000000000000000";

/// A cell as wide as its heading.
fn cell(name: &str, good: bool) -> String {
    format!("{:<width$}", if good { "ok" } else { "WRONG" }, width = name.len())
}

/// The image with busybox in it that is here in any case.
fn bus_image() -> String {
    let bus = running().into_iter().find(|container| container.service == "bus").expect("the container of the bus");
    bus.facts["Config"]["Image"].as_str().unwrap().to_owned()
}

/// The port of a line of `/proc/net/tcp` that listens; the engine's own resolver does so on 127.0.0.11.
fn listening(line: &str) -> Option<u16> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.rsplit_once(':')?;
    let listens = words.get(3) == Some(&"0A") && address != "0B00007F";
    listens.then(|| u16::from_str_radix(port, 16).unwrap())
}

fn volumes_of_the_project() -> Vec<String> {
    let label = format!("label=com.docker.compose.project={}", project());
    let list = docker(&["volume", "ls", "--quiet", "--filter", &label]);
    assert!(list.ok, "{}", list.text);
    list.text.split_whitespace().map(str::to_owned).collect()
}

fn mounts(container: &Container, volume: &str) -> bool {
    container.mounts().iter().any(|mount| mount["Name"] == volume)
}

fn writes(container: &Container, volume: &str) -> bool {
    container.mounts().iter().any(|mount| mount["Name"] == volume && mount["RW"] == true)
}

/// Mode, owner and path of every file in a volume.
fn files_in(image: &str, volume: &str) -> Vec<String> {
    let mount = format!("{volume}:/v:ro");
    let list = ["find", "/v", "-type", "f", "-exec", "/bin/busybox", "stat", "-c", "%a %u:%g %n", "{}", "+"];
    let found = probe(image, &["--network", "none", "-v", &mount], &list);
    assert!(found.ok, "{volume}: {}", found.text);
    found.text.lines().map(str::to_owned).collect()
}

/// The control of the names: the same probe on the outward network resolves a name, from a server that the test plays. Where port 53 is
/// not to be had, the control is that inner names resolve.
fn the_probe_can_resolve(image: &str) {
    let network = format!("{}_outward", project());
    let gateway = inspect("network", &network).unwrap()["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    if !answer_names(&gateway) {
        println!("no control with an outside name: this user cannot answer on {gateway}:53");
        return;
    }
    let said = probe(image, &["--network", &network, "--dns", &gateway], &["nslookup", "-type=a", "outside.test"]);
    assert!(said.ok && said.text.contains("192.0.2.7"), "the control fails: {said:?}");
    println!("control        on {network} outside.test resolves to 192.0.2.7");
}
