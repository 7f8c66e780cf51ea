//! W3C Trace Context: the `traceparent` that ties all records of one turn together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Header name; NATS headers are case-sensitive, so it is written in lower case everywhere.
pub const TRACEPARENT: &str = "traceparent";

/// A `traceparent` of version 00 (W3C Trace Context section 3.2): trace id and the id of the span that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trace {
    trace: u128,
    span: u64,
}

/// The text is no `traceparent`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a W3C traceparent")]
pub struct BadTrace;

impl Trace {
    /// A new trace from random bits; zero is not allowed by the standard and becomes one.
    pub fn new(trace: u128, span: u64) -> Self {
        Self { trace: trace.max(1), span: span.max(1) }
    }

    /// The same trace, sent by another span.
    pub fn child(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The trace id, 32 hex digits.
    pub fn id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl FromStr for Trace {
    type Err = BadTrace;

    fn from_str(text: &str) -> Result<Self, BadTrace> {
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(span), Some(_)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadTrace);
        };
        if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 {
            return Err(BadTrace);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| BadTrace)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| BadTrace)?;
        if trace == 0 || span == 0 { Err(BadTrace) } else { Ok(Self { trace, span }) }
    }
}

impl From<Trace> for String {
    fn from(trace: Trace) -> Self {
        trace.to_string()
    }
}

impl TryFrom<String> for Trace {
    type Error = BadTrace;

    fn try_from(text: String) -> Result<Self, BadTrace> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_survives_its_header() {
        let trace = Trace::new(0xabc, 7);
        assert_eq!(trace.to_string().parse(), Ok(trace));
        assert_eq!(trace.child(9).id(), trace.id());
        for bad in ["", "00-0-0-01", "00-00000000000000000000000000000000-0000000000000001-01"] {
            assert_eq!(bad.parse::<Trace>(), Err(BadTrace), "{bad}");
        }
    }
}
