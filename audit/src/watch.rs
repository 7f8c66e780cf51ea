//! What the audit service says about itself: how far the index is behind the stream, how large it is, and what it lacks.

use std::time::Duration;

use bus::Bus;
use jiff::{SignedDuration, Timestamp};
use proto::admin::Condition;
use proto::audit::Filter;
use tokio::time::sleep;

use crate::Follow;
use crate::index::Index;
use crate::progress::Progress;
use crate::select::Span;

/// How often the conditions are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// A record that is indexed this long after it was stored: the index is catching up, and answers lack the newest records.
const BEHIND: SignedDuration = SignedDuration::from_secs(10);

/// Reports until the service stops.
pub(crate) async fn run(bus: Bus, index: Index, follow: Follow) {
    let mut before = follow.borrow().upto();
    loop {
        let progress = follow.borrow().clone();
        bus.report(size(&index, &progress).await);
        bus.report(lag(&index, before, &progress).await);
        before = progress.upto();
        sleep(EVERY).await;
    }
}

async fn size(index: &Index, progress: &Progress) -> Condition {
    let (ok, detail) = match index.bytes().await {
        Err(error) => (false, format!("cannot be read: {error}")),
        Ok(bytes) => (true, format!("{} records, {}", progress.held(), mebibytes(bytes))),
    };
    let hint = (!ok).then(|| {
        "the stream still holds every record: remove index.db from the volume audit-data, and it is made anew"
            .to_owned()
    });
    Condition { name: "index".to_owned(), ok, detail, hint }
}

/// New records tell how late they are; without any, nothing is late.
async fn lag(index: &Index, before: u64, progress: &Progress) -> Condition {
    let upto = progress.upto();
    let newest = Span { after: upto.saturating_sub(1).max(before), upto, limit: 1, newest: true };
    let last = index.select(&Filter::default(), newest).await.ok().and_then(|found| found.into_iter().next_back());
    let late = last.map(|record| Timestamp::now().duration_since(record.stored)).filter(|late| *late > BEHIND);
    Condition {
        name: "stream".to_owned(),
        ok: late.is_none(),
        detail: match late {
            None => format!("indexed up to {upto}"),
            Some(late) => format!("indexed up to {upto}, which was stored {} s ago", late.as_secs()),
        },
        hint: late.map(|_| "the index is catching up; answers lack the newest records until then".to_owned()),
    }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_mebibytes() {
        assert_eq!([0, 1 << 20, (5 << 20) + (1 << 19)].map(mebibytes), ["0.0 MiB", "1.0 MiB", "5.5 MiB"]);
    }
}
