//! The files that a policy set is made of, as they stand on disk: read whole, within bounds, and compared to see a change.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::problem::{Problem, Problems};

/// Largest policy file or manifest in bytes. The largest shipped one has a few thousand; a log or a dump that was put into the folder by
/// mistake must not fill the memory.
const MAX_FILE: u64 = 1 << 20;

/// Most entries in one folder, for the same reason.
const MAX_ENTRIES: usize = 2000;

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Policy files: name to text.
    pub(crate) policies: BTreeMap<String, String>,
    /// Tools, in the order of the configured folders.
    pub(crate) tools: Vec<ToolSource>,
}

/// A folder of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolSource {
    /// The folder's own name.
    pub(crate) folder: String,
    /// The manifest's path.
    pub(crate) path: String,
    /// Its text, or why it cannot be read: a bad tool does not keep the others away.
    pub(crate) text: Result<String, String>,
}

impl Sources {
    /// Reads everything that the settings name.
    ///
    /// # Errors
    /// All folders and policy files that cannot be read.
    pub fn read(config: &Config) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let policies = read_policies(&config.policies, &mut problems);
        let tools = config.tools.iter().flat_map(|dir| read_tools(dir, &mut problems)).collect();
        if problems.is_empty() { Ok(Self { policies, tools }) } else { Err(Problems(problems)) }
    }
}

fn read_policies(dir: &Path, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for path in entries(dir, "policies", problems) {
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        match read_text(&path) {
            Ok(text) => {
                texts.insert(file_name(&path), text);
            }
            Err(why) => problems.push(Problem::with(path.display(), why)),
        }
    }
    texts
}

fn read_tools(dir: &Path, problems: &mut Vec<Problem>) -> Vec<ToolSource> {
    let folders = entries(dir, "tools", problems).into_iter().filter(|path| path.is_dir());
    let tool = |folder: PathBuf| {
        let path = folder.join("manifest.json");
        ToolSource { folder: file_name(&folder), path: path.display().to_string(), text: read_text(&path) }
    };
    folders.map(tool).collect()
}

/// Visible entries in the order of their names. Hidden ones are editors' swap and lock files.
fn entries(dir: &Path, key: &str, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        entries.take(MAX_ENTRIES + 1).map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    match listed {
        Ok(mut paths) if paths.len() <= MAX_ENTRIES => {
            paths.retain(|path| !file_name(path).starts_with('.'));
            paths.sort();
            paths
        }
        Ok(_) => {
            problems.push(Problem::with(
                dir.display(),
                format!("holds more than {MAX_ENTRIES} entries: is this the right folder?"),
            ));
            Vec::new()
        }
        Err(error) => {
            let hint = format!("cannot read this folder ({error}): make it readable or correct `{key}` in policy.toml");
            problems.push(Problem::with(dir.display(), hint));
            Vec::new()
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read this file: {error}");
    let mut text = String::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_not_there_are_all_named_with_their_key() {
        let config = Config { policies: "/nowhere/p".into(), tools: vec!["/nowhere/t".into()], ..Config::default() };
        let error = Sources::read(&config).unwrap_err().to_string();
        for part in ["/nowhere/p", "`policies`", "/nowhere/t", "`tools`", "policy.toml"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_shipped_folders_are_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = Config {
            policies: root.join("policies"),
            tools: vec![root.join("../tools/guests"), root.join("../tools/installed")],
            ..Config::default()
        };
        let sources = Sources::read(&config).unwrap();
        assert!(sources.policies.keys().all(|name| name.ends_with(".cedar")) && !sources.policies.is_empty());
        let clock = sources.tools.iter().find(|tool| tool.folder == "clock").unwrap();
        assert!(clock.text.as_ref().unwrap().contains("\"clock\""));
    }
}
