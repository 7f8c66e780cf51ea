//! Rules of the source that no compiler checks: who may depend on whom, what every file says about itself, and that crates, compose
//! services, images and identities have the same names. Each rule says how much it looked at, so that none holds for want of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proto::Component;
use toml::Table;

/// Longest file: what a reader takes in at one sitting.
const MAX_LINES: usize = 400;

/// Longest file of tests: they are read one at a time.
const MAX_TEST_LINES: usize = 600;

/// Files that may be longer, and how long: each is one table that would be worse in two halves.
const LONGER: [(&str, usize); 2] = [
    // Every fact of the record, and only that.
    ("proto/src/audit.rs", 600),
    // Who may say what to whom, and what the server is told of it.
    ("proto/src/links.rs", 500),
];

/// Folders that hold nothing of the project's source.
const SKIPPED: [&str; 5] = [".git", "target", "prebuilt", ".cache", "node_modules"];

/// What stands beside the components in compose.yaml: the server itself, and the first half of provisioning.
const COMPOSE_EXTRAS: [&str; 2] = ["bus", "provision-keys"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the project as path from its root.
fn files() -> Vec<String> {
    let (root, mut folders, mut found) = (root(), vec![root()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (kind, path) = (entry.file_type().unwrap(), entry.path());
            let skipped = SKIPPED.contains(&entry.file_name().to_string_lossy().as_ref());
            let installed = folder.ends_with("tools/installed") && kind.is_dir();
            if kind.is_dir() && !skipped && !installed {
                folders.push(path);
            } else if kind.is_file() && !skipped {
                found.push(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn files_ending(end: &str, at_least: usize) -> Vec<String> {
    let found: Vec<_> = files().into_iter().filter(|path| path.ends_with(end)).collect();
    assert!(found.len() >= at_least, "only {} files end with {end}", found.len());
    found
}

/// Every crate's manifest by its path; those of workspaces that are no crate are left out.
fn crates() -> BTreeMap<String, Table> {
    let parse = |path: String| (path.clone(), read(&path).parse::<Table>().unwrap());
    let found: BTreeMap<_, _> = files_ending("Cargo.toml", 15)
        .into_iter()
        .map(parse)
        .filter(|(_, table)| table.contains_key("package"))
        .collect();
    assert!(found.len() >= 14, "{:?}", found.keys());
    found
}

fn name_of(manifest: &Table) -> &str {
    manifest["package"]["name"].as_str().unwrap()
}

/// The names under one kind of dependencies.
fn dependencies<'a>(manifest: &'a Table, kind: &str) -> BTreeSet<&'a str> {
    let table = manifest.get(kind).and_then(toml::Value::as_table);
    table.into_iter().flat_map(Table::keys).map(String::as_str).collect()
}

fn names(components: impl IntoIterator<Item = Component>) -> BTreeSet<String> {
    components.into_iter().map(|component| component.as_str().to_owned()).collect()
}

#[test]
fn only_bus_knows_nats() {
    let mut users = BTreeSet::new();
    for (path, manifest) in crates() {
        let all = ["dependencies", "dev-dependencies", "build-dependencies"];
        if all.iter().any(|kind| dependencies(&manifest, kind).contains("async-nats")) {
            users.insert(name_of(&manifest).to_owned());
        }
        assert!(!manifest.contains_key("target"), "{path}: dependencies per target are not looked at here");
    }
    assert_eq!(users, BTreeSet::from(["bus".to_owned(), "system-tests".to_owned()]));
}

#[test]
fn services_share_no_code_but_proto_and_bus() {
    let crates = crates();
    let ours: BTreeSet<&str> = crates.values().map(name_of).collect();
    let of_its_own = |name: &str| match name {
        "tools-wasm" => vec!["runner"],
        "audit" | "forwarder" | "channel-web" | "provision" => vec!["ledger"],
        "cli" => vec!["provision", "ledger"],
        _ => vec![],
    };
    let mut seen = 0;
    for manifest in crates.values().filter(|manifest| !["system-tests", "proto"].contains(&name_of(manifest))) {
        let name = name_of(manifest);
        let mut allowed = BTreeSet::from(["proto", "bus", "tool"]);
        allowed.extend(of_its_own(name));
        for other in dependencies(manifest, "dependencies").intersection(&ours) {
            assert!(allowed.contains(other), "{name} depends on {other}");
            seen += 1;
        }
    }
    assert!(seen >= 16, "only {seen} dependencies between our crates seen");
}

#[test]
fn proto_pulls_in_neither_a_runtime_nor_a_client() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let of = |name: &str| {
        let found = packages.iter().filter(|package| package["name"].as_str() == Some(name));
        let listed = found.filter_map(|package| package.get("dependencies")).flat_map(|list| list.as_array().unwrap());
        listed.map(|one| one.as_str().unwrap().split(' ').next().unwrap()).collect::<Vec<_>>()
    };
    let (mut waiting, mut closure) = (vec!["proto"], BTreeSet::new());
    while let Some(name) = waiting.pop() {
        if closure.insert(name) {
            waiting.extend(of(name));
        }
    }
    assert!(closure.contains("serde_json") && closure.len() > 20, "{closure:?}");
    for unwanted in ["tokio", "async-nats", "reqwest", "hyper", "mio", "socket2"] {
        assert!(!closure.contains(unwanted), "proto pulls in {unwanted}");
    }
}

/// What every crate's lints come to, by itself or through its workspace.
fn lints_of(manifest: &Table, workspace: &Table) -> BTreeMap<String, String> {
    let own = manifest.get("lints").and_then(toml::Value::as_table).expect("no lints");
    let inherited = own.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    let table = if inherited { workspace["workspace"]["lints"].as_table().unwrap() } else { own };
    let level = |level: &toml::Value| level.as_str().or_else(|| level["level"].as_str()).unwrap().to_owned();
    let of_tool = |tool: &str| table.get(tool).and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let all = ["rust", "clippy"].into_iter().flat_map(of_tool);
    all.map(|(name, value)| (name, level(&value))).collect()
}

#[test]
fn every_crate_has_the_lints_of_its_workspace() {
    let main: Table = read("Cargo.toml").parse().unwrap();
    let guests: Table = read("tools/guests/Cargo.toml").parse().unwrap();
    for (path, manifest) in crates() {
        let workspace = if path.starts_with("tools/guests/") { &guests } else { &main };
        let lints = lints_of(&manifest, workspace);
        for denied in ["unwrap_used", "expect_used", "indexing_slicing", "panic", "todo", "print_stdout", "dbg_macro"] {
            assert_eq!(lints.get(denied).map(String::as_str), Some("deny"), "{path}: {denied}");
        }
        // Guests export the component's entry points; tools-wasm maps code that it compiled itself. Everybody else has no use for it.
        let unsafe_somewhere = path.starts_with("tools/guests/") || path == "tools/wasm/Cargo.toml";
        let expected: &[&str] = if unsafe_somewhere { &["deny", "forbid"] } else { &["forbid"] };
        assert!(expected.contains(&lints["unsafe_code"].as_str()), "{path}: unsafe_code");
        let inherits = manifest["lints"].get("workspace").is_some();
        assert!(inherits || path == "tools/wasm/Cargo.toml", "{path}: `[lints] workspace = true` is missing");
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for path in files_ending(".rs", 150) {
        let first = read(&path).lines().next().unwrap_or_default().to_owned();
        assert!(first.starts_with("//! ") && first.len() > 10, "{path} opens with: {first}");
    }
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut longer: Vec<_> =
        files_ending(".rs", 150).into_iter().map(|path| (read(&path).lines().count(), path)).collect();
    longer.retain(|(lines, path)| {
        let test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
        let named = LONGER.iter().find(|(long, _)| long == path).map(|(_, most)| *most);
        *lines > named.unwrap_or(if test { MAX_TEST_LINES } else { MAX_LINES })
    });
    assert!(longer.is_empty(), "too long: {longer:#?}");
}

/// The services of compose.yaml with the lines of each.
fn compose_services() -> BTreeMap<String, Vec<String>> {
    let text = read("compose.yaml");
    let (mut services, mut inside, mut current) = (BTreeMap::<String, Vec<String>>::new(), false, None);
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        let depth = line.len() - line.trim_start().len();
        if depth == 0 {
            inside = line == "services:";
        } else if inside && depth == 2 {
            current = Some(line.trim().trim_end_matches(':').to_owned());
            services.insert(current.clone().unwrap(), Vec::new());
        } else if inside {
            services.get_mut(current.as_ref().unwrap()).unwrap().push(line.trim().to_owned());
        }
    }
    services
}

#[test]
fn compose_services_images_crates_and_identities_have_the_same_names() {
    let mut expected = names(Component::ALL);
    expected.extend(COMPOSE_EXTRAS.map(str::to_owned));
    let services = compose_services();
    assert_eq!(services.keys().cloned().collect::<BTreeSet<_>>(), expected, "compose.yaml");

    let all = crates();
    let packages: BTreeSet<_> = all.values().map(|manifest| name_of(manifest).to_owned()).collect();
    assert_eq!(names(Component::ALL).difference(&packages).collect::<Vec<_>>(), Vec::<&String>::new(), "crates");

    let dockerfile = read("Dockerfile");
    for (service, lines) in services.iter().filter(|(service, _)| *service != "bus") {
        let image = if service.starts_with("provision") { "cli" } else { service };
        assert!(lines.contains(&format!("image: nachos/{image}:local")), "{service}: {lines:?}");
        assert!(
            dockerfile.lines().any(|line| line == format!("FROM base AS {image}")),
            "the Dockerfile has no {image}"
        );
    }
}

#[test]
fn every_container_of_ours_is_hardened_and_none_is_open_to_the_network() {
    let compose = read("compose.yaml");
    for guard in
        ["read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "pids_limit:", "mem_limit:", "internal: true"]
    {
        assert!(compose.contains(guard), "{guard}");
    }
    for (service, lines) in compose_services() {
        let has = |anchor: &str| lines.iter().any(|line| line.starts_with("<<:") && line.contains(anchor));
        assert!(has("*hardened") || has("*inside"), "{service} is not hardened");
        let open = ["ports:", "privileged:", "cap_add:", "network_mode: host", "devices:"];
        let opens = |line: &&String| open.iter().any(|word| line.starts_with(word));
        let loopback = r#"ports: ["127.0.0.1:${NACHOS_WEB_PORT:-8320}:8080"]"#;
        let mut opened = lines.iter().filter(opens).filter(|line| service != "channel-web" || *line != loopback);
        assert_eq!(opened.next(), None, "{service}");
        assert!(!lines.iter().any(|line| line.contains("docker.sock")), "{service} holds the engine's socket");
    }
}

#[test]
fn every_service_has_its_settings_file_and_its_place_in_the_documents() {
    let (readme, architecture) = (read("README.md"), read("docs/ARCHITECTURE.md"));
    for component in Component::ALL {
        let quoted = format!("`{component}`");
        assert!(architecture.contains(&quoted), "docs/ARCHITECTURE.md does not name {quoted}");
    }
    for service in Component::SERVICES {
        assert!(readme.contains(service.as_str()), "README.md does not name {service}");
        assert!(root().join(format!("deploy/config/{service}.toml")).is_file(), "{service} has no settings file");
    }
    let mut folders: Vec<_> =
        fs::read_dir(root()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()).collect();
    folders.retain(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    for folder in folders.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let known = SKIPPED.contains(&folder.as_str()) || architecture.contains(&format!("`{folder}/"));
        assert!(known, "docs/ARCHITECTURE.md does not tell what {folder}/ is");
    }
}

/// The targets of a page's links, as they stand there.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut seen = 0;
    for page in files_ending(".md", 8) {
        let text = read(&page);
        for target in links(&text).into_iter().filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap();
            let place = root().join(&page).parent().unwrap().join(file);
            assert!(place.exists(), "{page} points to {target}, which is not there");
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} links seen");
}

#[test]
fn tests_that_documents_name_are_there() {
    let sources: String = files_ending(".rs", 150).iter().map(|path| read(path)).collect();
    let mut seen = 0;
    for page in ["README.md", "docs/ARCHITECTURE.md"] {
        let text = read(page);
        // What stands between backticks and has the length of a sentence.
        let words = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let sentence =
            |word: &&str| word.matches('_').count() >= 3 && word.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
        for test in words.filter(sentence) {
            assert!(sources.contains(&format!("fn {test}()")), "{page} names the test {test}, which is not there");
            seen += 1;
        }
    }
    assert!(seen >= 15, "only {seen} tests named");
}

#[test]
fn every_decision_is_in_the_index() {
    let index = read("docs/adr/README.md");
    let decisions: Vec<_> = files_ending(".md", 8).into_iter().filter(|path| path.starts_with("docs/adr/0")).collect();
    assert!(decisions.len() >= 7, "{decisions:?}");
    for path in decisions {
        let file = path.rsplit('/').next().unwrap();
        assert!(index.contains(&format!("]({file})")), "docs/adr/README.md does not list {file}");
    }
}

/// Whether `text` names a folder below one of the places that exist on one machine only.
fn names_a_home(text: &str) -> Option<&str> {
    let places = ["home", "Users", "root", "work"].map(|place| format!("/{place}/"));
    text.lines().find(|line| {
        places.iter().any(|place| {
            line.match_indices(place.as_str()).any(|(at, _)| {
                // Below another folder, or below a variable, it is a path inside something.
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.}*".contains(c))
            })
        })
    })
}

#[test]
fn nothing_here_knows_the_machine_it_was_written_on() {
    let mut looked_at = 0;
    for path in files().into_iter().filter(|path| path != "tests/tests/tidy.rs" && path != "tests/tests/system/tidy.rs")
    {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        looked_at += 1;
        assert_eq!(names_a_home(&text), None, "{path} names a folder of one machine");
        for inside in [".internal/", ".corp/", ".lan/", ".intra/", ".local/"] {
            let named = text.lines().find(|line| line.contains("://") && line.contains(inside));
            assert_eq!(named, None, "{path} names a host of somebody's own network");
        }
    }
    assert!(looked_at > 200, "only {looked_at} files looked at");
    // The rule itself: a path inside something else is none of these.
    assert!(names_a_home("cd /home/ann").is_some() && names_a_home("$toolchain/root/usr").is_none());
}

#[test]
fn crates_come_from_the_public_registry_only() {
    let (mut sources, mut seen) = (0, BTreeSet::new());
    for lock in files_ending("Cargo.lock", 2) {
        for line in read(&lock).lines().filter(|line| line.starts_with("source = ")) {
            assert!(line.starts_with("source = \"registry+"), "{lock}: {line}");
            seen.insert(line.to_owned());
            sources += 1;
        }
    }
    assert_eq!(seen.len(), 1, "crates come from more than one registry: {seen:?}");
    assert!(sources > 300, "only {sources} sources seen");
    let settings = read(".cargo/config.toml");
    assert!(!settings.contains("[source") && !settings.contains("registr"), ".cargo/config.toml replaces the registry");
}
