//! Objects: bodies too large for a message of their kind, stored once and read by reference.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use proto::canonical::digest;
use proto::object::{MAX_OBJECT, ObjectRef, STREAM};
use uuid::Uuid;

use crate::connection::Bus;
use crate::error::{CallError, PublishError};
use crate::publish::Envelope;
use crate::request::first;

/// How long a read may take.
const READ: Duration = Duration::from_secs(5);

impl Bus {
    /// Stores an object and tells where it is.
    ///
    /// # Errors
    /// [`PublishError::TooLarge`] over [`MAX_OBJECT`], otherwise as storing a message.
    pub async fn put_object(&self, body: Bytes) -> Result<ObjectRef, PublishError> {
        if body.len() > MAX_OBJECT {
            return Err(PublishError::TooLarge(body.len()));
        }
        let id = Uuid::new_v4();
        let object = ObjectRef { owner: self.component(), id, bytes: body.len() as u64, digest: digest(&body) };
        let envelope = Envelope { subject: object.subject(), stream: STREAM, id: id.to_string(), trace: None, body };
        self.store_patiently(&envelope).await.map(|_| object)
    }

    /// Reads an object and checks that it is what the reference says.
    ///
    /// # Errors
    /// [`CallError::Broken`] when it is gone or altered.
    pub async fn get_object(&self, object: &ObjectRef) -> Result<Bytes, CallError> {
        self.check_sendable(0)?;
        let subject = proto::subject::Subject::direct_get(STREAM, &object.subject());
        let mut waiting = self.inner.inbox.expect(subject.as_str(), 1);
        let client = &self.inner.client;
        let sent = client
            .publish_with_reply_and_headers(
                subject.as_str().to_owned(),
                waiting.reply.clone(),
                HeaderMap::new(),
                Bytes::new(),
            )
            .await;
        sent.map_err(|error| CallError::Broken(error.to_string()))?;
        let message = first(&subject, READ, &mut waiting).await?;
        if digest(&message.payload) == object.digest {
            Ok(message.payload)
        } else {
            Err(CallError::Broken("the object is gone or altered".to_owned()))
        }
    }
}
