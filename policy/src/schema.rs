//! The schema that policies are checked against: a fixed part, and the roles and tool arguments of this installation.

use std::collections::BTreeSet;

use anyhow::Context as _;
use cedar_policy::Schema;
use proto::Name;

use crate::argument::ArgumentTypes;

/// The part that is the same everywhere.
const FIXED: &str = include_str!("schema.cedarschema");

/// The line in [`FIXED`] whose place the generated part takes.
const GENERATED: &str = "  // GENERATED: entity Role, type Arguments\n";

/// The whole schema.
///
/// # Errors
/// Only if a name came through that Cedar cannot take; roles and arguments are checked before.
pub(crate) fn schema(roles: &BTreeSet<Name>, arguments: &ArgumentTypes) -> anyhow::Result<Schema> {
    let generated = format!("{}{}", roles_entity(roles), arguments_type(arguments));
    let text = FIXED.replacen(GENERATED, &generated, 1);
    let (schema, _) = Schema::from_cedarschema_str(&text).context("the generated schema is not valid")?;
    Ok(schema)
}

/// An enumerated entity type: a policy that names a role outside of it is refused.
fn roles_entity(roles: &BTreeSet<Name>) -> String {
    if roles.is_empty() {
        return "  entity Role;\n".to_owned();
    }
    let quoted: Vec<_> = roles.iter().map(|role| format!("\"{role}\"")).collect();
    format!("  entity Role enum [{}];\n", quoted.join(", "))
}

/// A record in which every argument is optional.
fn arguments_type(arguments: &ArgumentTypes) -> String {
    let fields: String = arguments.iter().map(|(name, kind)| format!("    \"{name}\"?: {},\n", kind.cedar())).collect();
    format!("  type Arguments = {{\n{fields}  }};\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_valid_with_and_without_tools_and_roles() {
        let manifest = serde_json::json!({
            "name": "t", "family": "wasm", "description": "d",
            "parameters": {"properties": {"a-b.c": {"type": "number"}, "__cedar": {}, "if": {"type": "boolean"}}},
        });
        let manifest = serde_json::from_value(manifest).unwrap();
        schema(&BTreeSet::new(), &ArgumentTypes::default()).unwrap();
        schema(&BTreeSet::from(["owner".parse().unwrap()]), &ArgumentTypes::of([&manifest])).unwrap();
    }
}
