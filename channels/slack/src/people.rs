//! What the channel remembers of the workspace: people's names, and the threads in which the agent takes part. Both are asked of Slack
//! when they are not known, and forgotten after a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::event::{Identity, Message, takes_part};
use crate::recent::Recent;
use crate::text;
use crate::trouble::Class;
use crate::web::{Web, WebError};

/// How long a name is remembered, and how many.
const NAME_LIFE: Duration = Duration::from_secs(3600);
const NAMES: usize = 10_000;

/// How long all names of one message may take: its envelope wants an answer within three seconds.
const NAME_PATIENCE: Duration = Duration::from_millis(800);

/// How long it is remembered that the agent takes part in a thread, and in how many.
const THREAD_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
const THREADS: usize = 50_000;

/// How long it is remembered that it does not. A mention changes that at once; short, because another replica may see the mention.
const ABSENT_LIFE: Duration = Duration::from_secs(300);

/// How long asking for a thread may take, again because of the three seconds.
const THREAD_PATIENCE: Duration = Duration::from_millis(1800);

/// A thread: channel and time stamp of its first message.
type Thread = (String, String);

/// The memory.
pub(crate) struct People {
    web: Arc<Web>,
    me: Identity,
    names: Mutex<Recent<String, String>>,
    joined: Mutex<Recent<Thread, ()>>,
    absent: Mutex<Recent<Thread, ()>>,
}

impl People {
    pub(crate) fn new(web: Arc<Web>, me: Identity) -> Self {
        Self {
            web,
            me,
            names: Mutex::new(Recent::new(NAME_LIFE, NAMES)),
            joined: Mutex::new(Recent::new(THREAD_LIFE, THREADS)),
            absent: Mutex::new(Recent::new(ABSENT_LIFE, THREADS)),
        }
    }

    /// The agent takes part in a thread from now on.
    pub(crate) fn join(&self, channel: &str, root: &str) {
        let thread = (channel.to_owned(), root.to_owned());
        lock(&self.joined).insert(thread, (), Instant::now());
    }

    /// Whether the agent takes part in the message's thread. An error means that it could not be learned now.
    pub(crate) async fn in_thread(&self, message: &Message) -> Result<bool, WebError> {
        let thread = (message.channel.clone(), message.root.clone());
        if lock(&self.joined).get(&thread, Instant::now()).is_some() {
            return Ok(true);
        }
        if lock(&self.absent).get(&thread, Instant::now()).is_some() {
            return Ok(false);
        }
        let part = self.ask(&thread).await?;
        let memory = if part { &self.joined } else { &self.absent };
        lock(memory).insert(thread, (), Instant::now());
        Ok(part)
    }

    /// A thread that Slack does not show us is not ours; anything else may be asked again.
    async fn ask(&self, (channel, root): &Thread) -> Result<bool, WebError> {
        let asked = self.web.thread_has(channel, root, |messages| takes_part(messages, &self.me));
        match timeout(THREAD_PATIENCE, asked).await {
            Err(_) => {
                Err(WebError::Unreachable { method: "conversations.replies", why: "it took too long".to_owned() })
            }
            Ok(Err(error)) if error.class() != Class::Retry => {
                tracing::warn!(%error, "a thread could not be read: its messages are not taken");
                Ok(false)
            }
            Ok(answer) => answer,
        }
    }

    /// The message as a person reads it, with names as far as they can be had in time.
    pub(crate) async fn readable(&self, message: &Message) -> String {
        let users = text::mentioned(&message.text, &self.me.user);
        let names = self.names_of(&users).await;
        let mut lines = vec![text::clean(&message.text, &self.me.user, &names)];
        lines.extend(message.files.iter().cloned());
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }

    async fn names_of(&self, users: &[String]) -> HashMap<String, String> {
        let mut found = HashMap::new();
        let gathered = async {
            for user in users {
                if let Some(name) = self.name_of(user).await {
                    found.insert(user.clone(), name);
                }
            }
        };
        // What could not be had in time stays an id.
        let _in_time = timeout(NAME_PATIENCE, gathered).await;
        found
    }

    async fn name_of(&self, user: &String) -> Option<String> {
        if let Some(name) = lock(&self.names).get(user, Instant::now()) {
            return Some(name);
        }
        let asked = self.web.user_name(user).await;
        let name = asked.inspect_err(|error| tracing::debug!(%error, "no name")).ok()??;
        lock(&self.names).insert(user.clone(), name.clone(), Instant::now());
        Some(name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
