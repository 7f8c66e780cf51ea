//! The query index in SQLite: rows in, pages out.
//!
//! Only this file knows that it is SQLite. It is an index and no record: the stream is what counts, and a row that is here twice or
//! late changes nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use proto::audit::{Filter, StoredRecord};
use serde_json::Value;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, SqlSafeStr as _, Sqlite, Transaction};

use crate::progress::Progress;
use crate::row::Row;
use crate::select::{Span, number, statement};

/// One connection writes; the others answer questions meanwhile. Each is a thread and a page cache of 2 MB.
const CONNECTIONS: u32 = 4;

/// How long a statement waits for the writer. WAL readers never wait; only opening and checkpoints do.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// The migrations, oldest first. One that was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "records", include_str!("../migrations/0001_records.sql"))];

/// The index.
#[derive(Debug, Clone)]
pub struct Index {
    pool: SqlitePool,
}

impl Index {
    /// Opens the file, or makes it, and brings its tables up to date.
    ///
    /// # Errors
    /// The file cannot be used.
    pub async fn open(file: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A record is acknowledged after its commit and never comes again: the commit must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await
            .with_context(|| format!("cannot open the index {}", file.display()))?;
        migrations().run(&pool).await.context("cannot bring the index up to date")?;
        Ok(Self { pool })
    }

    /// How far it is.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn progress(&self) -> sqlx::Result<Progress> {
        let (upto, held): (i64, i64) = sqlx::query_as("SELECT upto, held FROM progress").fetch_one(&self.pool).await?;
        let ahead: Vec<i64> =
            sqlx::query_scalar("SELECT seq FROM records WHERE seq > ?").bind(upto).fetch_all(&self.pool).await?;
        Ok(Progress::resume(upto.unsigned_abs(), held.unsigned_abs(), ahead.into_iter().map(i64::unsigned_abs)))
    }

    /// Stores a batch in one transaction, and with it how far the index is then. Rows that are there already stay as they are.
    ///
    /// # Errors
    /// Nothing of the batch was stored.
    pub async fn insert(&self, rows: &[Row], progress: &Progress) -> sqlx::Result<Progress> {
        let mut after = progress.clone();
        let mut transaction = self.pool.begin().await?;
        for row in rows {
            if insert_row(&mut transaction, row).await? {
                after.add(row.seq);
            }
        }
        save_progress(&mut transaction, &after).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Stores how far the index is, after a hole was given up.
    ///
    /// # Errors
    /// The index cannot be written.
    pub async fn save(&self, progress: &Progress) -> sqlx::Result<()> {
        let mut transaction = self.pool.begin().await?;
        save_progress(&mut transaction, progress).await?;
        transaction.commit().await
    }

    /// The records of `span` that match, in stream order.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn select(&self, filter: &Filter, span: Span) -> sqlx::Result<Vec<StoredRecord>> {
        let rows = statement(filter, span).build().fetch_all(&self.pool).await?;
        let mut records: Vec<StoredRecord> = rows.iter().map(stored).collect::<sqlx::Result<_>>()?;
        if span.newest {
            records.reverse();
        }
        Ok(records)
    }

    /// Size of the index in bytes, without what waits in the write-ahead log.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn bytes(&self) -> sqlx::Result<u64> {
        let bytes: i64 = sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            .fetch_one(&self.pool)
            .await?;
        Ok(bytes.unsigned_abs())
    }

    /// Closes the file; what was committed is in it.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn migrations() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
}

/// True if the row is new.
async fn insert_row(transaction: &mut Transaction<'_, Sqlite>, row: &Row) -> sqlx::Result<bool> {
    let facts = &row.facts;
    let done = sqlx::query(
        "INSERT OR IGNORE INTO records
         (seq, stored, component, type, id, session, turn, trace, principal, channel, tool, outcome, raw)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(number(row.seq))
    .bind(row.stored)
    .bind(&row.component)
    .bind(&facts.kind)
    .bind(&facts.id)
    .bind(&facts.session)
    .bind(&facts.turn)
    .bind(&facts.trace)
    .bind(&facts.principal)
    .bind(&facts.channel)
    .bind(&facts.tool)
    .bind(&facts.outcome)
    .bind(&row.raw)
    .execute(&mut **transaction)
    .await?;
    let new = done.rows_affected() == 1;
    if new {
        insert_policies(transaction, row).await?;
    }
    Ok(new)
}

async fn insert_policies(transaction: &mut Transaction<'_, Sqlite>, row: &Row) -> sqlx::Result<()> {
    for policy in &row.facts.policies {
        sqlx::query("INSERT OR IGNORE INTO deciding_policies (policy, seq) VALUES (?, ?)")
            .bind(policy)
            .bind(number(row.seq))
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn save_progress(transaction: &mut Transaction<'_, Sqlite>, progress: &Progress) -> sqlx::Result<()> {
    sqlx::query("UPDATE progress SET upto = ?, held = ?")
        .bind(number(progress.upto()))
        .bind(number(progress.held()))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// What is no JSON object with a type is shown as the text that it is.
fn stored(row: &SqliteRow) -> sqlx::Result<StoredRecord> {
    let raw: String = row.try_get("raw")?;
    Ok(StoredRecord {
        seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
        stored: Timestamp::from_microsecond(row.try_get("stored")?).unwrap_or_default(),
        component: row.try_get("component")?,
        record: serde_json::from_str(&raw).unwrap_or(Value::String(raw)),
    })
}
