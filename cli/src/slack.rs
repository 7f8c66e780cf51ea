//! `nachos slack manifest`: the app manifest that belongs to this release's Slack channel.

use crate::failure::{Ending, Failure};
use crate::out::Out;

const MANIFEST: &str = include_str!("../../channels/slack/manifest.json");

/// Prints it as it is, for api.slack.com/apps.
pub(crate) fn manifest(mut out: Out) -> Result<Ending, Failure> {
    out.line(MANIFEST.trim_end())?;
    Ok(Ending::Done)
}
