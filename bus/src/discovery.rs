//! The NATS Service API (ADR-32): `nats micro ls` and `nats micro stats` show every component.
//!
//! Answers are for display only. Anybody with the right to answer `$SRV` could answer anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use jiff::Timestamp;
use proto::{Refusal, links::QUEUE};
use serde_json::{Value, json};

use crate::connection::Bus;
use crate::error::BusError;

/// The endpoints that the process serves.
#[derive(Default)]
pub(crate) struct Endpoints {
    all: Mutex<Vec<Arc<EndpointStats>>>,
}

/// What one endpoint did so far.
pub(crate) struct EndpointStats {
    name: &'static str,
    subject: String,
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last_error: Mutex<String>,
}

impl Endpoints {
    pub(crate) fn add(&self, name: &'static str, subject: &str) -> Arc<EndpointStats> {
        let stats = Arc::new(EndpointStats {
            name,
            subject: subject.to_owned(),
            requests: AtomicU64::default(),
            errors: AtomicU64::default(),
            nanos: AtomicU64::default(),
            last_error: Mutex::default(),
        });
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        stats
    }

    fn describe(&self, show: impl Fn(&EndpointStats) -> Value) -> Vec<Value> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|stats| show(stats)).collect()
    }
}

impl EndpointStats {
    pub(crate) fn count(&self, took: Duration, error: Option<Refusal>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(refusal) = error {
            self.errors.fetch_add(1, Ordering::Relaxed);
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = refusal.code.to_string();
        }
    }

    fn info(&self) -> Value {
        json!({"name": self.name, "subject": self.subject, "queue_group": QUEUE, "metadata": {}})
    }

    fn stats(&self) -> Value {
        let (requests, nanos) = (self.requests.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed));
        json!({
            "name": self.name,
            "subject": self.subject,
            "queue_group": QUEUE,
            "num_requests": requests,
            "num_errors": self.errors.load(Ordering::Relaxed),
            "last_error": *self.last_error.lock().unwrap_or_else(PoisonError::into_inner),
            "processing_time": nanos,
            "average_processing_time": nanos.checked_div(requests).unwrap_or_default(),
        })
    }
}

impl Bus {
    /// Answers discovery until the bus drains.
    pub(crate) async fn serve_discovery(&self, version: &'static str, started: Timestamp) -> Result<(), BusError> {
        let (name, id) = (self.component().as_str(), uuid::Uuid::new_v4().simple().to_string());
        let mut subscriptions = Vec::new();
        for verb in ["PING", "INFO", "STATS"] {
            for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.{name}"), format!("$SRV.{verb}.{name}.{id}")] {
                let subscribed = self.inner.client.subscribe(subject).await;
                subscriptions.push(subscribed.map_err(|error| BusError::Broken(error.to_string()))?);
            }
        }
        let bus = self.clone();
        self.spawn(async move {
            let mut questions = select_all(subscriptions);
            while let Some(question) = questions.next().await {
                bus.answer_discovery(&question, &id, version, started).await;
            }
        });
        Ok(())
    }

    async fn answer_discovery(&self, question: &Message, id: &str, version: &str, started: Timestamp) {
        let Some(reply) = question.reply.clone().filter(|reply| reply.as_str().starts_with("_INBOX.")) else { return };
        let verb = question.subject.as_str().split('.').nth(1).unwrap_or_default().to_owned();
        let kind = format!("io.nats.micro.v1.{}_response", verb.to_ascii_lowercase());
        let mut answer = json!({
            "type": kind, "name": self.component(), "id": id, "version": version, "metadata": {},
        });
        if let Some(fields) = answer.as_object_mut() {
            match verb.as_str() {
                "INFO" => {
                    fields.insert("description".to_owned(), json!(format!("Nachos {}", self.component())));
                    fields.insert("endpoints".to_owned(), json!(self.inner.endpoints.describe(EndpointStats::info)));
                }
                "STATS" => {
                    fields.insert("started".to_owned(), json!(started));
                    fields.insert("endpoints".to_owned(), json!(self.inner.endpoints.describe(EndpointStats::stats)));
                }
                _ => {}
            }
        }
        let _ = self.inner.client.publish(reply, answer.to_string().into()).await;
    }
}
