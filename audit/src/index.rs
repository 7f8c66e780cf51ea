//! The query index in SQLite: rows in, pages out.
//!
//! Only this file knows that it is SQLite. It is an index and no record: the stream is what counts, and a row that is here twice or
//! late changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use proto::audit::{Filter, StoredRecord};
use proto::seal::{NodeHash, Subjects};
use serde_json::Value;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{QueryBuilder, Row as _, SqlSafeStr as _, Sqlite, Transaction};
use uuid::Uuid;

use crate::progress::Progress;
use crate::row::{Facts, Row};
use crate::select::{Span, number, statement};

/// One connection writes; the others answer questions meanwhile. Each is a thread and a page cache of 2 MB.
const CONNECTIONS: u32 = 4;

/// How long a statement waits for the writer. WAL readers never wait; only opening and checkpoints do.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// The migrations, oldest first. One that was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "records", include_str!("../migrations/0001_records.sql")),
    (2, "leaves", include_str!("../migrations/0002_leaves.sql")),
];

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

    /// Leaves after `after`, in stream order, as far as they follow one another and at most `limit`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn leaves(&self, after: u64, upto: u64, limit: u32) -> sqlx::Result<Vec<NodeHash>> {
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT seq, leaf FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?")
                .bind(number(after))
                .bind(number(upto))
                .bind(limit)
                .fetch_all(&self.pool)
                .await?;
        let follows = rows.into_iter().zip(after + 1..).take_while(|((seq, _), next)| seq.unsigned_abs() == *next);
        Ok(follows.map_while(|((_, leaf), _)| leaf.try_into().ok().map(NodeHash)).collect())
    }

    /// Whole rows after `after`, in stream order.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn rows(&self, after: u64, upto: u64, limit: u64) -> sqlx::Result<Vec<Row>> {
        let rows = sqlx::query("SELECT * FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?")
            .bind(number(after))
            .bind(number(upto))
            .bind(number(limit))
            .fetch_all(&self.pool)
            .await?;
        let mut found: Vec<Row> = rows.iter().map(whole).collect::<sqlx::Result<_>>()?;
        let policies: Vec<(i64, String)> =
            sqlx::query_as("SELECT seq, policy FROM deciding_policies WHERE seq > ? AND seq <= ?")
                .bind(number(after))
                .bind(number(found.last().map_or(after, |row| row.seq)))
                .fetch_all(&self.pool)
                .await?;
        let mut by_seq: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for (seq, policy) in policies {
            by_seq.entry(seq.unsigned_abs()).or_default().insert(policy);
        }
        for row in &mut found {
            row.facts.policies = by_seq.remove(&row.seq).unwrap_or_default().into_iter().collect();
        }
        Ok(found)
    }

    /// The number of the record with this id.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn number_of(&self, id: Uuid) -> sqlx::Result<Option<u64>> {
        let found: Option<i64> = sqlx::query_scalar("SELECT seq FROM records WHERE id = ? ORDER BY seq LIMIT 1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.map(i64::unsigned_abs))
    }

    /// Number, component and id of the records with texts that `whose` means.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn records_of(&self, whose: &Subjects, before: Option<Timestamp>) -> sqlx::Result<Vec<(String, String)>> {
        let (column, wanted) = match whose {
            Subjects::Principal(principal) => ("principal", principal.clone()),
            Subjects::Session(session) => ("session", session.clone()),
            Subjects::Turn(turn) => ("turn", turn.to_string()),
            Subjects::Record(record) => ("id", record.to_string()),
        };
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT component, id FROM records WHERE id IS NOT NULL AND ");
        sql.push(column).push(" = ").push_bind(wanted);
        if let Some(before) = before {
            sql.push(" AND stored < ").push_bind(before.as_microsecond());
        }
        sql.build_query_as().fetch_all(&self.pool).await
    }

    /// The last number stored before this time, if all before it are in the index.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn last_before(&self, time: Timestamp) -> sqlx::Result<u64> {
        let first_after: Option<i64> = sqlx::query_scalar("SELECT MIN(seq) FROM records WHERE stored >= ?")
            .bind(time.as_microsecond())
            .fetch_one(&self.pool)
            .await?;
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(seq) FROM records").fetch_one(&self.pool).await?;
        Ok(first_after.map_or(last.unwrap_or(0), |seq| seq - 1).unsigned_abs())
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
         (seq, stored, component, type, id, session, turn, trace, principal, channel, tool, outcome, raw, time_ns, subject, leaf)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(number(row.seq))
    .bind(row.stored())
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
    .bind(row.raw.as_slice())
    .bind(row.time_ns)
    .bind(&row.subject)
    .bind(row.leaf.0.as_slice())
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
    let raw: Vec<u8> = row.try_get_unchecked("raw")?;
    Ok(StoredRecord {
        seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
        stored: Timestamp::from_microsecond(row.try_get("stored")?).unwrap_or_default(),
        component: row.try_get("component")?,
        record: serde_json::from_slice(&raw)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&raw).into_owned())),
    })
}

fn whole(row: &SqliteRow) -> sqlx::Result<Row> {
    let leaf: Vec<u8> = row.try_get("leaf")?;
    Ok(Row {
        seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
        time_ns: row.try_get("time_ns")?,
        subject: row.try_get("subject")?,
        component: row.try_get("component")?,
        facts: Facts {
            kind: row.try_get("type")?,
            id: row.try_get("id")?,
            session: row.try_get("session")?,
            turn: row.try_get("turn")?,
            trace: row.try_get("trace")?,
            principal: row.try_get("principal")?,
            channel: row.try_get("channel")?,
            tool: row.try_get("tool")?,
            outcome: row.try_get("outcome")?,
            policies: Vec::new(),
        },
        raw: row.try_get_unchecked("raw")?,
        leaf: NodeHash(leaf.try_into().unwrap_or_default()),
    })
}
