//! Arguments against the tool's JSON Schema, before a permit is used up on a call that cannot succeed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use proto::canonical::digest_of_json;
use proto::tool::Manifest;
use proto::{Refusal, RefusalCode};
use serde_json::Value;

/// Faults told at once: enough to mend a call, little enough to read.
const MAX_FAULTS: usize = 5;

/// Compiled schemas, by the digest of their text.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<String, Arc<Validator>>>);

impl Schemas {
    /// Whether the arguments are what the tool says that it takes.
    pub(crate) fn check(&self, manifest: &Manifest, arguments: &Value) -> Result<(), Refusal> {
        let validator = self.compiled(manifest)?;
        let faults: Vec<String> =
            validator.iter_errors(arguments).take(MAX_FAULTS).map(|fault| describe(&fault)).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            let reason =
                format!("nothing ran: the arguments do not fit the tool `{}`: {}", manifest.name, faults.join("; "));
            Err(Refusal::new(RefusalCode::Invalid, reason))
        }
    }

    fn compiled(&self, manifest: &Manifest) -> Result<Arc<Validator>, Refusal> {
        let broken =
            |why: String| Refusal::new(RefusalCode::Internal, format!("the schema of `{}`: {why}", manifest.name));
        let key = digest_of_json(&manifest.parameters).map_err(|error| broken(error.to_string()))?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(validator) = known.get(&key) {
            return Ok(Arc::clone(validator));
        }
        let validator = jsonschema::validator_for(&manifest.parameters).map_err(|error| broken(error.to_string()))?;
        let validator = Arc::new(validator);
        known.insert(key, Arc::clone(&validator));
        Ok(validator)
    }
}

fn describe(fault: &jsonschema::ValidationError<'_>) -> String {
    let place = fault.instance_path().to_string();
    if place.is_empty() { fault.to_string() } else { format!("{place}: {fault}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_that_do_not_fit_are_told_apart() {
        let manifest: Manifest = serde_json::from_value(json!({
            "name": "clock", "family": "wasm", "description": "time",
            "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"], "additionalProperties": false},
        }))
        .unwrap();
        let schemas = Schemas::default();
        assert!(schemas.check(&manifest, &json!({"zone": "UTC"})).is_ok());
        for bad in [json!({}), json!({"zone": 1}), json!({"zone": "UTC", "x": 1}), json!("UTC")] {
            let refusal = schemas.check(&manifest, &bad).unwrap_err();
            assert!(refusal.reason.contains("do not fit"), "{refusal}");
        }
    }
}
