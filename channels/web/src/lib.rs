//! The web pages: the timeline of the record.

use bus::Bus;
use serde::Deserialize;

/// Settings of the web pages.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// Starts to serve.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(async move {
        let _ = (bus, config);
        Ok(())
    })
}
