//! Puts the gateway together.

use std::sync::Arc;

use anyhow::Context as _;
use bus::Bus;
use proto::channel::Inbound;
use tokio::sync::Semaphore;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::inbox;
use crate::lanes::Lanes;
use crate::store::Store;

/// What all turns share.
pub(crate) struct Gateway {
    pub(crate) bus: Bus,
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) catalogue: Catalogue,
    pub(crate) lanes: Lanes,
    /// Places for turns at work.
    pub(crate) places: Semaphore,
}

/// Takes people's messages and answers them until the bus drains.
///
/// # Errors
/// When the settings contradict themselves, the database does not open or the messages cannot be read.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    config.check()?;
    let path = config.database.display().to_string();
    let store = Store::open(&config.database).await.with_context(|| format!("cannot use the database {path}"))?;
    let deliveries = bus.deliveries::<Inbound>().await.context("cannot read the messages of channels")?;
    let gateway = Arc::new(Gateway {
        catalogue: Catalogue::default(),
        lanes: Lanes::new(config.max_waiting_messages),
        places: Semaphore::new(config.max_parallel_turns),
        bus: bus.clone(),
        config,
        store,
    });
    bus.spawn(inbox::take_all(gateway, deliveries));
    Ok(())
}
