//! Records from the index, page by page.

use bus::Bus;
use proto::audit::{Filter, MAX_QUERY, Page, Query, StoredRecord};

use super::ask::ask;
use crate::failure::Failure;

/// Matching records from the oldest on, all or `limit`, to `take`; the last stream number that the index has seen.
pub(super) async fn oldest(
    bus: &Bus,
    filter: &Filter,
    limit: Option<u64>,
    mut take: impl FnMut(&Page) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut query = Query { v: proto::VERSION, filter: filter.clone(), after: None, limit: MAX_QUERY, newest: false };
    let mut left = limit.unwrap_or(u64::MAX);
    loop {
        query.limit = page_size(left);
        let page = ask(bus, &query).await?;
        take(&page)?;
        left = left.saturating_sub(page.records.len() as u64);
        query.after = page.records.last().map(|record| record.seq);
        if !page.more || query.after.is_none() || left == 0 {
            return Ok(page.indexed);
        }
    }
}

/// The newest `limit` matching records, in stream order, and whether there are more.
pub(super) async fn newest(bus: &Bus, filter: &Filter, limit: u64) -> Result<(Vec<StoredRecord>, bool), Failure> {
    let mut query = Query { v: proto::VERSION, filter: filter.clone(), after: None, limit: MAX_QUERY, newest: true };
    let mut pages = Vec::new();
    let mut left = limit;
    let more = loop {
        query.limit = page_size(left);
        let page = ask(bus, &query).await?;
        left = left.saturating_sub(page.records.len() as u64);
        query.filter.before = page.records.first().map(|record| record.seq);
        pages.push(page.records);
        if !page.more || query.filter.before.is_none() || left == 0 {
            break page.more;
        }
    };
    Ok((pages.into_iter().rev().flatten().collect(), more))
}

/// All that match: for filters that name one turn or one record.
pub(super) async fn all(bus: &Bus, filter: &Filter) -> Result<Vec<StoredRecord>, Failure> {
    let mut found = Vec::new();
    oldest(bus, filter, None, |page| {
        found.extend_from_slice(&page.records);
        Ok(())
    })
    .await?;
    Ok(found)
}

fn page_size(left: u64) -> u32 {
    u32::try_from(left).unwrap_or(MAX_QUERY).clamp(1, MAX_QUERY)
}
