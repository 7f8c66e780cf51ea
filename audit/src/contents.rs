//! What is kept beside records, in a file of its own: salts and texts, taken from the queue `CONTENTS`, put back into answers, erased when
//! asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bus::{Bus, Deliveries, Delivery};
use futures_util::future::join_all;
use proto::admin::Condition;
use proto::audit::{Kept, Part, StoredRecord, attach};
use proto::content::Salt;
use serde_json::Value;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Most deliveries of one transaction.
const MAX_BATCH: usize = 256;

/// Ids of one statement.
const MAX_IDS: usize = 500;

/// Pause before a batch is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One writes, one reads.
const CONNECTIONS: u32 = 2;

/// The store.
#[derive(Debug, Clone)]
pub struct Contents {
    pool: SqlitePool,
}

/// Record, component, field, salt, text, redacted.
type Row = (String, String, String, String, Option<String>, bool);

/// Parts by (record, component).
type Found = BTreeMap<(String, String), BTreeMap<String, Part>>;

impl Contents {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub async fn open(file: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // What is erased is overwritten and not only forgotten.
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await;
        let pool = pool.with_context(|| format!("cannot open the texts {}", file.display()))?;
        let sql = include_str!("../migrations/contents_0001.sql");
        let first = Migration::new(1, "parts".into(), MigrationType::Simple, sql.into_sql_str(), false);
        Migrator::with_migrations(vec![first]).run(&pool).await.context("cannot bring the texts up to date")?;
        Ok(Self { pool })
    }

    /// Stores a batch. A part that is there already stays.
    ///
    /// # Errors
    /// Nothing of the batch was stored.
    pub async fn insert(&self, batch: &[(&str, &Kept)]) -> sqlx::Result<()> {
        let mut transaction = self.pool.begin().await?;
        for (component, kept) in batch {
            for (field, part) in &kept.parts {
                sqlx::query("INSERT OR IGNORE INTO parts (record, component, field, salt, text, redacted) VALUES (?, ?, ?, ?, ?, ?)")
                    .bind(kept.record.to_string())
                    .bind(component)
                    .bind(field)
                    .bind(salt_text(part.salt))
                    .bind(&part.text)
                    .bind(part.redacted)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await
    }

    /// What is kept beside records with these ids.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn of(&self, ids: &[String]) -> sqlx::Result<Found> {
        let mut found = Found::new();
        for some in ids.chunks(MAX_IDS) {
            let rows: Vec<Row> = sqlx::query_as("SELECT record, component, field, salt, text, redacted FROM parts WHERE record IN (SELECT value FROM json_each(?))")
                .bind(serde_json::json!(some).to_string())
                .fetch_all(&self.pool)
                .await?;
            for (record, component, field, salt, text, redacted) in rows {
                let Some(salt) = read_salt(&salt) else { continue };
                found.entry((record, component)).or_default().insert(field, Part { salt, text, redacted });
            }
        }
        Ok(found)
    }

    /// Puts texts back into records that are shown: only what the record's own component sent.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn attach_to(&self, records: &mut [StoredRecord]) -> sqlx::Result<()> {
        let id = |record: &StoredRecord| record.record.get("id").and_then(Value::as_str).map(str::to_owned);
        let ids: Vec<String> = records.iter().filter_map(id).collect();
        let found = self.of(&ids).await?;
        for record in records {
            let key = id(record).map(|id| (id, record.component.clone()));
            if let Some(parts) = key.and_then(|key| found.get(&key)) {
                attach(&mut record.record, parts);
            }
        }
        Ok(())
    }

    /// Erases what is kept beside these records, as (component, id); how many records lost something.
    ///
    /// # Errors
    /// The store cannot be written; some may be erased.
    pub async fn erase(&self, records: &[(String, String)]) -> sqlx::Result<u64> {
        let mut erased = 0;
        for (component, id) in records {
            let done = sqlx::query("DELETE FROM parts WHERE record = ? AND component = ?");
            let done = done.bind(id).bind(component).execute(&self.pool).await?;
            erased += u64::from(done.rows_affected() > 0);
        }
        // The write-ahead log still holds what was deleted until it is written back and cut.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await?;
        Ok(erased)
    }

    /// How many of these records have something beside them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn count(&self, records: &[(String, String)]) -> sqlx::Result<u64> {
        let ids: Vec<String> = records.iter().map(|(_, id)| id.clone()).collect();
        let found = self.of(&ids).await?;
        let has = |(component, id): &&(String, String)| found.contains_key(&(id.clone(), component.clone()));
        Ok(records.iter().filter(has).count() as u64)
    }
}

fn salt_text(salt: Salt) -> String {
    serde_json::to_value(salt).ok().and_then(|salt| salt.as_str().map(str::to_owned)).unwrap_or_default()
}

fn read_salt(text: &str) -> Option<Salt> {
    serde_json::from_value(Value::String(text.to_owned())).ok()
}

/// Takes what comes on the queue.
///
/// # Errors
/// The bus does not hand it out.
pub(crate) async fn start(bus: &Bus, contents: Contents) -> anyhow::Result<()> {
    let deliveries = bus.deliveries::<Kept>().await.context("cannot read the queue of texts")?;
    let (queue, waiting) = mpsc::channel(MAX_BATCH);
    bus.spawn(read(deliveries, queue));
    bus.spawn(take_all(bus.clone(), contents, waiting));
    Ok(())
}

async fn read(mut deliveries: Deliveries<Kept>, queue: mpsc::Sender<Delivery<Kept>>) {
    while let Some(delivery) = deliveries.next().await {
        if queue.send(delivery).await.is_err() {
            return;
        }
    }
}

async fn take_all(bus: Bus, contents: Contents, mut waiting: mpsc::Receiver<Delivery<Kept>>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let kept: Vec<(&str, &Kept)> = batch.iter().filter_map(sent).collect();
        while let Err(error) = contents.insert(&kept).await {
            tracing::error!(%error, "the store of texts takes none");
            report(&bus, Some(&error));
            sleep(RETRY).await;
        }
        report(&bus, None);
        drop(join_all(batch.iter().map(Delivery::done)).await);
        batch.clear();
    }
}

/// What it is, and who sent it by the server's word.
fn sent(delivery: &Delivery<Kept>) -> Option<(&str, &Kept)> {
    Some((delivery.component?.as_str(), delivery.body.as_ref().ok()?))
}

fn report(bus: &Bus, error: Option<&sqlx::Error>) {
    bus.report(Condition {
        name: "texts".to_owned(),
        ok: error.is_none(),
        detail: error
            .map_or_else(|| "kept beside the records".to_owned(), |error| format!("cannot be stored: {error}")),
        hint: error.map(|_| "they wait on the bus meanwhile: is the disk full?".to_owned()),
    });
}

#[cfg(test)]
mod tests {
    use proto::Component;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn kept(n: u128, text: &str) -> Kept {
        let part = Part { salt: Salt::random(), text: Some(text.to_owned()), redacted: false };
        Kept {
            v: 1,
            component: Component::Cli,
            record: Uuid::from_u128(n),
            parts: BTreeMap::from([("text".into(), part)]),
        }
    }

    fn shown(n: u128, component: &str) -> StoredRecord {
        let record = json!({"id": Uuid::from_u128(n), "data": {"text": {"digest": "d", "bytes": 3}}});
        StoredRecord { seq: 1, stored: jiff::Timestamp::UNIX_EPOCH, component: component.into(), record }
    }

    #[tokio::test]
    async fn texts_are_attached_for_their_own_component_until_they_are_erased() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("contents.db");
        let contents = Contents::open(&file).await.unwrap();
        let secret = "a sentence that nobody else writes";
        contents.insert(&[("cli", &kept(1, secret)), ("cli", &kept(2, "two"))]).await.unwrap();
        let mut records = [shown(1, "cli"), shown(1, "gateway")];
        contents.attach_to(&mut records).await.unwrap();
        assert_eq!(records[0].record["data"]["text"]["text"], secret);
        assert_eq!(records[1].record["data"]["text"].get("text"), None, "another component's record");

        let whose = [("cli".to_owned(), Uuid::from_u128(1).to_string())];
        assert_eq!((contents.count(&whose).await.unwrap(), contents.erase(&whose).await.unwrap()), (1, 1));
        let mut records = [shown(1, "cli"), shown(2, "cli")];
        contents.attach_to(&mut records).await.unwrap();
        assert_eq!(records[0].record["data"]["text"].get("text"), None);
        assert_eq!(records[1].record["data"]["text"]["text"], "two");
        for name in ["contents.db", "contents.db-wal"] {
            let bytes = std::fs::read(dir.path().join(name)).unwrap_or_default();
            assert!(!bytes.windows(secret.len()).any(|some| some == secret.as_bytes()), "{name} still holds it");
        }
    }
}
