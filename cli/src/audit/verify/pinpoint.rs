//! Which record exactly is not what was sealed. A checkpoint says that one of the records before it is another; the audit service's tree,
//! as far as it leads to that very checkpoint, says which.

use std::collections::BTreeMap;

use bus::Bus;
use futures_util::{StreamExt as _, pin_mut};
use ledger::leaf;
use ledger::tree::Frontier;
use ledger::verify::{ProblemKind, Report};
use proto::audit::STREAM;
use proto::seal::{FrontierRequest, NodeHash};

/// Most records between two checkpoints that are read again: many times what the audit service leaves between them.
const MAX_STRETCH: u64 = 100_000;

/// Roots of genuine checkpoints, by size.
pub(super) type Sealed = BTreeMap<u64, NodeHash>;

/// Names the first record that was altered in the problem that says so, if that can be found out.
pub(super) async fn name_it(bus: &Bus, sealed: &Sealed, report: &mut Report) {
    let altered = report.problems.iter().position(|problem| problem.kind == ProblemKind::Altered);
    let Some(after) = altered.and_then(|at| report.problems.get(at)?.seq) else { return };
    let Some((upto, root)) = sealed.range(after..).next() else { return };
    let gone =
        report.problems.iter().filter(|problem| problem.kind == ProblemKind::Deleted).filter_map(|problem| problem.seq);
    let gone = gone.filter(|seq| (after..=*upto).contains(seq)).min();
    let Some(problem) = altered.and_then(|at| report.problems.get_mut(at)) else { return };
    // That a record is gone explains it: this is told first.
    if let Some(seq) = gone {
        problem.seq = Some(seq);
        return;
    }
    if let Some(seq) = search(bus, after, *upto, *root).await {
        problem.seq = Some(seq);
        problem.what = format!(
            "record {seq} is not what was sealed: it, its time or its subject was altered, or it was moved or put in; the tree that leads \
             to the checkpoint over {upto} records has another leaf there"
        );
    }
}

async fn search(bus: &Bus, after: u64, upto: u64, root: NodeHash) -> Option<u64> {
    let before = after.checked_sub(1)?;
    if upto - before > MAX_STRETCH || theirs(bus, upto).await?.root() != root {
        return None;
    }
    let found = roots(bus, theirs(bus, before).await?, after, upto).await?;
    let (mut same, mut differs) = (before, upto);
    while differs - same > 1 {
        let middle = same + (differs - same) / 2;
        let ours = found.get(usize::try_from(middle - after).ok()?)?;
        if theirs(bus, middle).await?.root() == *ours { same = middle } else { differs = middle }
    }
    Some(differs)
}

/// The tree of the audit service at this size.
async fn theirs(bus: &Bus, size: u64) -> Option<Frontier> {
    let reply = bus.request(Bus::new_trace(), &FrontierRequest { v: proto::VERSION, size }).await.ok()?;
    Frontier::resume(size, &reply.hashes)
}

/// The roots that the records in the stream lead to, one after each.
async fn roots(bus: &Bus, mut tree: Frontier, after: u64, upto: u64) -> Option<Vec<NodeHash>> {
    let stored = bus.look_up_all(STREAM, after..=upto);
    pin_mut!(stored);
    let mut roots = Vec::new();
    while let Some(found) = stored.next().await {
        let (seq, found) = found.ok()?;
        tree.push(found.map_or_else(|| leaf::missing(seq), |record| leaf::hash(&record)));
        roots.push(tree.root());
    }
    Some(roots)
}
