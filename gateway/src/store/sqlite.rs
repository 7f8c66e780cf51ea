//! The store on SQLite: the only file with SQL. Statements keep to what Postgres understands too.
//!
//! There is one connection that writes, so that writers wait for each other in order instead of polling a lock, and some that
//! read. Every write is on disk when its call returns (WAL with `synchronous = FULL`).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use proto::llm::ChatMessage;
use proto::tool::Taint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqlSafeStr as _, Sqlite, Transaction};
use uuid::Uuid;

use super::{Arrival, Farewell, Session, State, StoreError, StoredTurn};
use crate::turn::Entry;

/// How long a statement waits for another process's lock (a backup); our own writers never contend.
const BUSY: Duration = Duration::from_secs(5);

/// How long a turn waits for its place at the writing connection. A write takes about a millisecond and turns are bounded; longer
/// is a sick disk.
const ACQUIRE: Duration = Duration::from_secs(20);

/// Reading connections: reads are short and rare.
const READERS: u32 = 2;

/// Most turns looked at for a session's history; the byte budget ends it long before.
const MAX_TURNS: i64 = 200;

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
}

fn migrations() -> Migrator {
    let init = include_str!("migrations/0001_init.sql").into_sql_str();
    Migrator::with_migrations(vec![Migration::new(1, "init".into(), MigrationType::Simple, init, false)])
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = pool(1, options.clone()).await?;
        migrations().run(&writer).await?;
        let reader = pool(READERS, options).await?;
        Ok(Self { writer, reader })
    }

    /// The turn of a message and its session; made where they are new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn arrive(&self, arrival: &Arrival<'_>) -> Result<StoredTurn, StoreError> {
        if let Some(turn) = self.find(arrival).await? {
            return Ok(turn);
        }
        let now = now();
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO sessions (id, channel, conversation, record, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (channel, conversation) DO NOTHING",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(arrival.channel.as_str())
        .bind(arrival.conversation)
        .bind(Uuid::now_v7().to_string())
        .bind(&now)
        .execute(&mut *transaction)
        .await
        .map_err(failed("open a session"))?;
        sqlx::query(
            "INSERT INTO turns (id, session, event, position, created_at) \
             SELECT $1, id, $2, $3, $4 FROM sessions WHERE channel = $5 AND conversation = $6 \
             ON CONFLICT (session, event) DO NOTHING",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(arrival.event)
        .bind(signed(arrival.position))
        .bind(&now)
        .bind(arrival.channel.as_str())
        .bind(arrival.conversation)
        .execute(&mut *transaction)
        .await
        .map_err(failed("open a turn"))?;
        transaction.commit().await.map_err(failed("open a turn"))?;
        self.find(arrival).await?.ok_or(StoreError::Database { doing: "open a turn", source: sqlx::Error::RowNotFound })
    }

    async fn find(&self, arrival: &Arrival<'_>) -> Result<Option<StoredTurn>, StoreError> {
        let row = sqlx::query(
            "SELECT turns.id AS turn, state, reply, sessions.id AS session, record, opened, taint \
             FROM sessions JOIN turns ON turns.session = sessions.id \
             WHERE channel = $1 AND conversation = $2 AND event = $3",
        )
        .bind(arrival.channel.as_str())
        .bind(arrival.conversation)
        .bind(arrival.event)
        .fetch_optional(&self.reader)
        .await
        .map_err(failed("find a turn"))?;
        row.map(|row| stored_turn(&row)).transpose()
    }

    /// Marks a session as opened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn opened(&self, session: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE sessions SET opened = 1 WHERE id = $1")
            .bind(session)
            .execute(&self.writer)
            .await
            .map_err(failed("mark a session as opened"))?;
        Ok(())
    }

    /// Everything that happened in a turn so far.
    ///
    /// # Errors
    /// [`StoreError`], [`StoreError::Corrupt`] if one of the steps is not readable.
    pub async fn entries(&self, turn: Uuid) -> Result<Vec<Entry>, StoreError> {
        let rows = sqlx::query("SELECT entry FROM steps WHERE turn = $1 ORDER BY number")
            .bind(turn.to_string())
            .fetch_all(&self.reader)
            .await
            .map_err(failed("read a turn's steps"))?;
        rows.iter().map(|row| from_json("step", &text(row, "entry")?)).collect()
    }

    /// Stores what happened, and what the session has come into contact with by now. Storing the same again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append(&self, turn: &StoredTurn, first: usize, entries: &[Entry]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_steps(&mut transaction, turn, first, entries).await?;
        transaction.commit().await.map_err(failed("store a turn's steps"))
    }

    /// Stores how the turn ends, with the steps that were not stored yet. The first ending stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reply(
        &self,
        turn: &StoredTurn,
        first: usize,
        entries: &[Entry],
        farewell: &Farewell,
        transcript: &[ChatMessage],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        add_steps(&mut transaction, turn, first, entries).await?;
        sqlx::query("UPDATE turns SET state = 'replied', reply = $1, transcript = $2 WHERE id = $3 AND state = 'open'")
            .bind(to_json(farewell)?)
            .bind(to_json(&transcript)?)
            .bind(turn.id.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed("store a reply"))?;
        transaction.commit().await.map_err(failed("store a reply"))
    }

    /// Says how far a turn is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark(&self, turn: Uuid, state: State) -> Result<(), StoreError> {
        sqlx::query("UPDATE turns SET state = $1 WHERE id = $2")
            .bind(state.as_str())
            .bind(turn.to_string())
            .execute(&self.writer)
            .await
            .map_err(failed("mark a turn"))?;
        Ok(())
    }

    /// What was said in the session before, newest turn first, at most `bytes` of it in whole turns. A turn that is not readable is
    /// passed over: the person loses some memory, not the conversation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, session: &str, bytes: usize) -> Result<Vec<Vec<ChatMessage>>, StoreError> {
        let rows = sqlx::query(
            "SELECT transcript FROM turns WHERE session = $1 AND state <> 'open' AND length(transcript) > 2 \
             ORDER BY position DESC LIMIT $2",
        )
        .bind(session)
        .bind(MAX_TURNS)
        .fetch_all(&self.reader)
        .await
        .map_err(failed("read a session's history"))?;
        let mut left = bytes;
        let mut turns = Vec::new();
        for row in &rows {
            let transcript = text(row, "transcript")?;
            let Some(rest) = left.checked_sub(transcript.len()) else { break };
            left = rest;
            match from_json("transcript", &transcript) {
                Ok(messages) => turns.push(messages),
                Err(error) => tracing::error!(session, %error, "a turn is missing from the session's history"),
            }
        }
        Ok(turns)
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin().await.map_err(failed("begin to write"))
    }

    #[cfg(test)]
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }
}

async fn pool(most: u32, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(most)
        .acquire_timeout(ACQUIRE)
        .connect_with(options)
        .await
        .map_err(failed("open it"))
}

async fn add_steps(
    transaction: &mut Transaction<'static, Sqlite>,
    turn: &StoredTurn,
    first: usize,
    entries: &[Entry],
) -> Result<(), StoreError> {
    let now = now();
    for (number, entry) in (first..).zip(entries) {
        sqlx::query(
            "INSERT INTO steps (turn, number, entry, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (turn, number) DO NOTHING",
        )
        .bind(turn.id.to_string())
        .bind(signed(number as u64))
        .bind(to_json(entry)?)
        .bind(&now)
        .execute(&mut **transaction)
        .await
        .map_err(failed("store a turn's steps"))?;
    }
    let taint: &BTreeSet<Taint> = &turn.session.taint;
    sqlx::query("UPDATE sessions SET taint = $1 WHERE id = $2 AND taint <> $1")
        .bind(to_json(taint)?)
        .bind(&turn.session.id)
        .execute(&mut **transaction)
        .await
        .map_err(failed("store a session's taint"))?;
    Ok(())
}

fn stored_turn(row: &SqliteRow) -> Result<StoredTurn, StoreError> {
    let reply: Option<String> = row.try_get("reply").map_err(failed("read a turn"))?;
    let opened: i64 = row.try_get("opened").map_err(failed("read a session"))?;
    let session = Session {
        id: text(row, "session")?,
        record: from_text("session's record", &text(row, "record")?)?,
        opened: opened != 0,
        taint: from_json("taint", &text(row, "taint")?)?,
    };
    Ok(StoredTurn {
        id: from_text("turn's id", &text(row, "turn")?)?,
        session,
        state: State::read(&text(row, "state")?),
        farewell: reply.map(|reply| from_json("reply", &reply)).transpose()?,
    })
}

fn text(row: &SqliteRow, column: &'static str) -> Result<String, StoreError> {
    row.try_get(column).map_err(failed("read a row"))
}

fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { doing, source }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Corrupt { what: "value", source })
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt { what, source })
}

/// An id as a column holds it, without JSON's quotes.
fn from_text<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_value(text.into()).map_err(|source| StoreError::Corrupt { what, source })
}

/// Stream numbers and step numbers stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn now() -> String {
    Timestamp::now().to_string()
}
