//! The floor: one request and its reply between two async-nats connections, without anything of ours.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;
use proto::Component;
use system_tests::Server;
use tokio::time::sleep;

use crate::measure::{Series, one_by_one};

/// Round trips that are measured.
const TIMES: usize = 3000;

/// A body as large as a small question of ours.
const BODY: &[u8] = &[b'x'; 512];

/// Asks as `cli` and answers as `audit`, on a subject that the audit service must not serve meanwhile.
pub async fn round_trip(server: &Server) -> Series {
    let subject = "nachos.audit.query";
    let (asking, answering) = (connect(server, Component::Cli).await, connect(server, Component::Audit).await);
    let mut questions = answering.queue_subscribe(subject, "q".to_owned()).await.expect("a subscription");
    let answerer = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let reply = question.reply.expect("a place to answer");
            answering.publish(reply, Bytes::from_static(BODY)).await.expect("an answer");
        }
    });
    // A flush is no round trip: the subscription is there when the first question is answered.
    while asking.request(subject, Bytes::from_static(BODY)).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    let series = one_by_one(TIMES, async || {
        asking.request(subject, Bytes::from_static(BODY)).await.expect("an answer");
    })
    .await;
    answerer.abort();
    series
}

async fn connect(server: &Server, component: Component) -> Client {
    let seed = std::fs::read_to_string(server.keys(component).join("bus.nk")).expect("a seed");
    ConnectOptions::with_nkey(seed.trim().to_owned())
        .custom_inbox_prefix(format!("_INBOX.{component}"))
        .connect(server.url())
        .await
        .expect("a connection")
}
