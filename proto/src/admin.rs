//! How a component is doing: what `nachos status` and `nachos doctor` ask everybody.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::Component;
use crate::subject::{Request, Subject};
use crate::version;

/// How are you? Subject `nachos.admin.health.<component>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthRequest {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// The component asked.
    pub component: Component,
}

/// A component about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Body version.
    #[serde(default = "version")]
    pub v: u32,
    /// Who.
    pub component: Component,
    /// Its release.
    pub version: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// What it watches about itself.
    pub conditions: Vec<Condition>,
}

/// One thing that is well or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// What, in a few words: `bus`, `policy set`, `slack socket`.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What is the matter, or what the state is.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Request for HealthRequest {
    type Reply = Health;
    const ENDPOINT: &'static str = "health";
    const PATIENCE: Duration = Duration::from_secs(2);

    fn subject(&self, _: Component) -> Subject {
        Subject::new(format!("nachos.admin.health.{}", self.component))
    }

    fn served_by(server: Component) -> Subject {
        Subject::new(format!("nachos.admin.health.{server}"))
    }
}
