//! Which of Slack's events are messages to the agent. Pure: a payload in, a verdict out.

use serde_json::Value;

/// Who we are in the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The bot's user id.
    pub(crate) user: String,
    /// The bot's bot id.
    pub(crate) bot: Option<String>,
}

/// A message of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The workspace that installed the app: the outer team id. In a shared channel the inner one is the author's.
    pub(crate) team: String,
    /// The channel or DM.
    pub(crate) channel: String,
    /// Its time stamp, which is its id within the channel.
    pub(crate) ts: String,
    /// The time stamp of the thread's first message; its own where it starts one.
    pub(crate) root: String,
    /// The author.
    pub(crate) user: String,
    /// The text, in Slack's own markup.
    pub(crate) text: String,
    /// A line for each file.
    pub(crate) files: Vec<String>,
}

/// What to do about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is for us.
    Take(Message),
    /// It is for us if we take part in its thread.
    IfInThread(Message),
    /// We wrote it, in this channel and thread.
    Own(String, String),
    /// It is not for us.
    Ignore(&'static str),
}

/// Subtypes that carry what a person wrote. The others are edits, deletions, joins, topics and bots.
const SPOKEN: [&str; 3] = ["file_share", "thread_broadcast", "me_message"];

/// The system's own users, which have no `bot_id`.
const SYSTEM_USERS: [&str; 2] = ["USLACK", "USLACKBOT"];

impl Message {
    /// One conversation is one thread: a message outside a thread starts its own.
    pub(crate) fn conversation(&self) -> String {
        conversation(&self.team, &self.channel, &self.root)
    }
}

/// The name of a thread as a conversation.
pub(crate) fn conversation(team: &str, channel: &str, root: &str) -> String {
    format!("{team}:{channel}:{root}")
}

/// Judges the payload of an `events_api` envelope.
pub(crate) fn judge(payload: &Value, me: &Identity) -> Verdict {
    let Some(event) = payload.get("event") else {
        return Verdict::Ignore("no event");
    };
    let kind = word(event, "type");
    if !matches!(kind, "message" | "app_mention") {
        return Verdict::Ignore("not a message");
    }
    if is_own(event, me) {
        return own(event);
    }
    if let Some(why) = unwanted(event) {
        return Verdict::Ignore(why);
    }
    match read(payload, event) {
        None => Verdict::Ignore("incomplete"),
        Some(message) if is_direct(event) || kind == "app_mention" => Verdict::Take(message),
        Some(message) if mentions(&message.text, &me.user) => Verdict::Take(message),
        Some(message) if word(event, "parent_user_id") == me.user => Verdict::Take(message),
        Some(message) if message.root != message.ts => Verdict::IfInThread(message),
        Some(_) => Verdict::Ignore("neither a mention nor in a thread"),
    }
}

/// Whether the thread's messages show that we take part: we wrote one, or one mentions us.
pub(crate) fn takes_part(messages: &[Value], me: &Identity) -> bool {
    messages.iter().any(|message| is_own(message, me) || mentions(word(message, "text"), &me.user))
}

fn is_own(event: &Value, me: &Identity) -> bool {
    let bot = word(event, "bot_id");
    word(event, "user") == me.user || (!bot.is_empty() && me.bot.as_deref() == Some(bot))
}

fn own(event: &Value) -> Verdict {
    let (channel, ts) = (word(event, "channel"), word(event, "ts"));
    let root = event.get("thread_ts").and_then(Value::as_str).unwrap_or(ts);
    Verdict::Own(channel.to_owned(), root.to_owned())
}

/// Why nobody is answered: two bots that answer each other never stop.
fn unwanted(event: &Value) -> Option<&'static str> {
    let subtype = word(event, "subtype");
    if !word(event, "bot_id").is_empty() {
        Some("a bot")
    } else if !subtype.is_empty() && !SPOKEN.contains(&subtype) {
        Some("not something that a person wrote")
    } else if event.get("hidden").and_then(Value::as_bool).unwrap_or_default() {
        Some("hidden")
    } else if SYSTEM_USERS.contains(&word(event, "user")) {
        Some("Slack itself")
    } else {
        None
    }
}

fn read(payload: &Value, event: &Value) -> Option<Message> {
    let (channel, ts) = (id(event, "channel")?, id(event, "ts")?);
    let team = id(payload, "team_id").or_else(|| id(payload.pointer("/authorizations/0")?, "team_id"))?;
    Some(Message {
        team,
        root: id(event, "thread_ts").unwrap_or_else(|| ts.clone()),
        channel,
        ts,
        user: id(event, "user")?,
        text: word(event, "text").to_owned(),
        files: event.get("files").and_then(Value::as_array).into_iter().flatten().map(file).collect(),
    })
}

fn is_direct(event: &Value) -> bool {
    match word(event, "channel_type") {
        "" => word(event, "channel").starts_with('D'),
        kind => kind == "im",
    }
}

fn mentions(text: &str, user: &str) -> bool {
    text.contains(&format!("<@{user}>")) || text.contains(&format!("<@{user}|"))
}

fn file(file: &Value) -> String {
    let kind = file.get("mimetype").and_then(Value::as_str).unwrap_or("unknown type");
    let name: String = word(file, "name").chars().filter(|c| !c.is_control()).take(200).collect();
    format!("[file {name}, {kind}: its content was not read]")
}

fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// An id of Slack: letters, digits and the dot of time stamps. They become parts of a conversation's name, joined by colons, so
/// nothing else may be in them.
fn id(value: &Value, field: &str) -> Option<String> {
    let text = word(value, field);
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    (!text.is_empty() && plain).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
