//! Where an export's records go: into a file that proves itself, or as plain text to whoever reads it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use ledger::pack::{Manifest, Writer};
use proto::audit::Part;
use proto::seal::{NodeHash, RawRecord};

use super::super::output::Output;
use super::Order;
use super::convert::Converter;
use crate::failure::Failure;

/// A file or plain text, as far as it is collected.
pub(super) struct Sink {
    pack: Option<Writer>,
    converter: Converter,
}

impl Sink {
    /// Empty.
    pub(super) fn new(order: &Order, about: Manifest) -> Result<Self, Failure> {
        let converter = Converter::new(&order.folder, order.format, order.plain).map_err(no_room)?;
        let pack = (!order.plain).then(|| Writer::new(&order.folder, about)).transpose().map_err(no_room)?;
        Ok(Self { pack, converter })
    }

    /// A checkpoint that covers records.
    pub(super) fn checkpoint(&mut self, note: &str) -> Result<(), Failure> {
        self.pack.as_mut().map_or(Ok(()), |pack| pack.checkpoint(note)).map_err(no_room)
    }

    /// The next record.
    pub(super) fn record(
        &mut self,
        record: &RawRecord,
        proof: Option<&[NodeHash]>,
        parts: &BTreeMap<String, Part>,
    ) -> Result<(), Failure> {
        if let Some(pack) = &mut self.pack {
            pack.record(record, proof, parts).map_err(no_room)?;
        }
        self.converter.record(record, parts)
    }

    /// A number that the stream does not hold any more.
    pub(super) fn missing(&mut self, seq: u64) -> Result<(), Failure> {
        self.pack.as_mut().map_or(Ok(()), |pack| pack.missing(seq)).map_err(no_room)
    }

    /// Writes it out; what the file is.
    pub(super) fn finish(self, mut output: Output) -> Result<Option<Manifest>, Failure> {
        let Some(mut pack) = self.pack else {
            self.converter.finish(&mut output)?;
            output.finish()?;
            return Ok(None);
        };
        if let Some(mut converted) = pack.converted() {
            self.converter.finish(&mut converted)?;
            converted.flush().map_err(no_room)?;
        }
        let (manifest, output) = pack.finish(output)?;
        output.finish()?;
        Ok(Some(manifest))
    }
}

/// Parts are collected on disk.
pub(super) fn no_room(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::StorageFull {
        return Failure::new(error, "-o FILE collects the parts beside that file, where there is room")
            .context("cannot collect the export");
    }
    Failure::from(anyhow::Error::new(error)).context("cannot collect the export")
}
