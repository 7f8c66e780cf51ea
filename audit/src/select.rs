//! A filter as SQL: conditions with bound values only, nothing of the caller's text becomes part of the statement.

use proto::audit::Filter;
use sqlx::{QueryBuilder, Sqlite};

/// Which stretch of the stream is wanted, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Only after this number.
    pub after: u64,
    /// Only up to this number.
    pub upto: u64,
    /// Most rows.
    pub limit: u32,
    /// The last rows of the stretch instead of the first.
    pub newest: bool,
}

/// The statement that finds the rows of `span` that match `filter`.
pub fn statement(filter: &Filter, span: Span) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT seq, stored, component, raw FROM records WHERE seq > ");
    sql.push_bind(number(span.after));
    sql.push(" AND seq <= ").push_bind(number(span.upto));
    if let Some(before) = filter.before {
        sql.push(" AND seq < ").push_bind(number(before));
    }
    push_types(&mut sql, &filter.types);
    push_exact(&mut sql, filter);
    if let Some(trace) = &filter.trace {
        push_prefix(&mut sql, "trace", &trace.to_ascii_lowercase());
    }
    if let Some(principal) = &filter.principal {
        push_pattern(&mut sql, "principal", principal);
    }
    if let Some(policy) = &filter.policy {
        sql.push(" AND seq IN (SELECT seq FROM deciding_policies WHERE policy = ");
        sql.push_bind(policy.clone()).push(")");
    }
    push_times(&mut sql, filter);
    sql.push(if span.newest { " ORDER BY seq DESC LIMIT " } else { " ORDER BY seq LIMIT " });
    sql.push_bind(i64::from(span.limit));
    sql
}

/// SQLite counts signed; a stream will not get past half of the numbers.
pub fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn push_exact(sql: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    let turn = filter.turn.map(|turn| turn.to_string());
    for (column, wanted) in [
        ("session", &filter.session),
        ("turn", &turn),
        ("channel", &filter.channel),
        ("tool", &filter.tool),
        ("outcome", &filter.outcome),
        ("component", &filter.component),
    ] {
        if let Some(wanted) = wanted {
            sql.push(" AND ").push(column).push(" = ").push_bind(wanted.clone());
        }
    }
}

fn push_types(sql: &mut QueryBuilder<Sqlite>, types: &[String]) {
    if types.is_empty() {
        return;
    }
    // `0` so that every type after it can begin with `OR`.
    sql.push(" AND (0");
    for wanted in types {
        sql.push(" OR (1");
        push_pattern(sql, "type", wanted);
        sql.push(")");
    }
    sql.push(")");
}

/// A trailing `*` stands for any rest.
fn push_pattern(sql: &mut QueryBuilder<Sqlite>, column: &'static str, pattern: &str) {
    match pattern.strip_suffix('*') {
        Some(prefix) => push_prefix(sql, column, prefix),
        None => {
            sql.push(" AND ").push(column).push(" = ").push_bind(pattern.to_owned());
        }
    }
}

/// A range, so that an index serves it: no text that begins with `prefix` sorts behind it and the last character there is.
fn push_prefix(sql: &mut QueryBuilder<Sqlite>, column: &'static str, prefix: &str) {
    sql.push(" AND ").push(column).push(" >= ").push_bind(prefix.to_owned());
    sql.push(" AND ").push(column).push(" < ").push_bind(format!("{prefix}{}", char::MAX));
}

fn push_times(sql: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    if let Some(since) = filter.since {
        sql.push(" AND stored >= ").push_bind(since.as_microsecond());
    }
    if let Some(until) = filter.until {
        sql.push(" AND stored < ").push_bind(until.as_microsecond());
    }
}
