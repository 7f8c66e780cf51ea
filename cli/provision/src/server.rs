//! The server's configuration: one account, one user per component with the rights that the links table gives, public keys
//! only. Leafnodes, gateways, routes, MQTT and WebSocket are not opened: most advisories of nats-server need one of them.

use std::collections::BTreeMap;

use proto::{Component, links};

/// What differs between an installation and a test.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where clients connect.
    pub listen: String,
    /// Where the server tells its health. On its own loopback: the monitoring pages tell too much about everybody.
    pub monitor: String,
    /// Where the store is.
    pub store: String,
    /// When an acknowledged write is on disk: `always` flushes before each acknowledgement.
    pub sync_interval: String,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:4222".to_owned(),
            monitor: "127.0.0.1:8222".to_owned(),
            store: "/data".to_owned(),
            sync_interval: "always".to_owned(),
        }
    }
}

/// Renders the whole configuration.
pub(super) fn render(settings: &ServerSettings, identities: &BTreeMap<Component, String>) -> String {
    let ServerSettings { listen, monitor, store, sync_interval } = settings;
    let users = links::render(&|component| identities.get(&component).cloned().unwrap_or_default());
    format!(
        r#"# Made by `nachos provision keys` from the links table; changes here are overwritten.
server_name: "nachos"
listen: "{listen}"
http: "{monitor}"

# One bus message holds at most a mebibyte; larger things go by reference.
max_payload: 1MB
max_pending: 16MB
max_connections: 256
max_control_line: 4KB
max_subscriptions: 512
ping_interval: "20s"
ping_max: 2
write_deadline: "5s"

jetstream {{
  store_dir: "{store}"
  max_file_store: 4GB
  max_memory_store: 64MB
  # An acknowledged record is on disk, also after a power failure.
  sync_interval: "{sync_interval}"
  cipher: chachapoly
  include "storage-key.conf"
}}

accounts {{
  NACHOS {{
    jetstream {{ max_file: 4GB, max_mem: 64MB, max_streams: 8, max_consumers: 32 }}
    users: [
{users}    ]
  }}
}}
"#
    )
}
