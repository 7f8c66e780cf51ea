//! The permit: policy's signed word that one call, with exactly these arguments, may run once.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::canonical::{NotCanonical, digest_of_json};
use crate::channel::CLOCK_SKEW;
use crate::content::Salt;
use crate::keys::{KeyError, PublicKey, SigningKey};
use crate::name::{Family, Name};

/// How long a permit lives. It must be shorter than the audit stream's duplicate window (two minutes), or a permit could be used
/// again after the stream forgot its first use.
pub const PERMIT_LIFETIME: SignedDuration = SignedDuration::from_secs(30);

/// The `iss` of every permit.
const ISSUER: &str = "policy";

/// `typ` of a permit.
const PERMIT_TYPE: &str = "nachos-permit+jwt";

/// A permit as compact JWS, EdDSA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permit(String);

/// What a permit says (registered claims of RFC 7519, and our own).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitClaims {
    /// The permit's id; the runner uses it as `Nats-Msg-Id` of `tool.started`, so that it works once.
    pub jti: Uuid,
    /// Always `policy`.
    pub iss: String,
    /// The tool it opens.
    pub aud: Name,
    /// The principal it was given to.
    pub sub: String,
    /// The family whose runner may use it.
    pub family: Family,
    /// The session.
    pub session: String,
    /// The turn.
    pub turn: Uuid,
    /// The model's id of the call.
    pub call: String,
    /// Digest of the canonical arguments.
    pub args: String,
    /// The salt under which decision and run describe these arguments in the record.
    pub salt: Salt,
    /// The decision that it stems from (id of the audit record).
    pub decision: Uuid,
    /// Hash of the policy set that decided.
    pub policy_set: String,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Valid before, seconds since 1970.
    pub exp: i64,
}

/// Why a permit opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    /// Not signed by policy, or altered.
    #[error("the permit is not signed by this installation's policy engine")]
    Forged(#[source] KeyError),
    /// Its time is over, or has not come, or is longer than permits live.
    #[error("the permit has expired")]
    Expired,
    /// For another tool or family.
    #[error("the permit is for another tool")]
    OtherTool,
    /// For other arguments.
    #[error("the permit is for other arguments")]
    OtherArguments,
    /// The arguments have no exact canonical form.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
}

impl PermitClaims {
    /// Signs them.
    ///
    /// # Errors
    /// [`KeyError::Signing`].
    pub fn sign(&self, key: &SigningKey) -> Result<Permit, KeyError> {
        key.sign(PERMIT_TYPE, self).map(Permit)
    }

    /// Fills in issuer and times: valid from `now` for [`PERMIT_LIFETIME`].
    pub fn issued(mut self, now: Timestamp) -> Self {
        ISSUER.clone_into(&mut self.iss);
        self.iat = now.as_second();
        self.exp = (now + PERMIT_LIFETIME).as_second();
        self
    }
}

impl Permit {
    /// Checks everything that can be checked without the audit stream: signature, times, tool, arguments. That it is used once is
    /// decided by recording its use.
    ///
    /// # Errors
    /// [`PermitError`].
    pub fn verify(
        &self,
        policy: &PublicKey,
        family: Family,
        tool: &Name,
        arguments: &Value,
        now: Timestamp,
    ) -> Result<PermitClaims, PermitError> {
        let claims: PermitClaims = policy.verify(PERMIT_TYPE, &self.0).map_err(PermitError::Forged)?;
        let lifetime = claims.exp.saturating_sub(claims.iat);
        let early = claims.iat > (now + CLOCK_SKEW).as_second();
        if now.as_second() >= claims.exp || early || lifetime > PERMIT_LIFETIME.as_secs() {
            return Err(PermitError::Expired);
        }
        if claims.iss != ISSUER || claims.family != family || claims.aud != *tool {
            return Err(PermitError::OtherTool);
        }
        if claims.args != digest_of_json(arguments)? {
            return Err(PermitError::OtherArguments);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(now: Timestamp) -> PermitClaims {
        PermitClaims {
            jti: Uuid::from_u128(1),
            iss: String::new(),
            aud: "clock".parse().unwrap(),
            sub: "cli/ann".into(),
            family: Family::Wasm,
            session: "s".into(),
            turn: Uuid::from_u128(2),
            call: "c1".into(),
            args: digest_of_json(&json!({"zone": "Asia/Tokyo"})).unwrap(),
            salt: Salt::random(),
            decision: Uuid::from_u128(3),
            policy_set: "sha256:0".into(),
            iat: 0,
            exp: 0,
        }
        .issued(now)
    }

    #[test]
    fn a_permit_opens_one_tool_with_one_set_of_arguments_for_a_short_time() {
        let (policy, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let (clock, args) = ("clock".parse::<Name>().unwrap(), json!({"zone": "Asia/Tokyo"}));
        let permit = claims(now).sign(&policy).unwrap();
        let check = |permit: &Permit, tool: &Name, args: &Value, now| {
            permit.verify(&policy.public(), Family::Wasm, tool, args, now)
        };

        assert!(check(&permit, &clock, &args, now).is_ok());
        assert!(matches!(check(&permit, &"calc".parse().unwrap(), &args, now), Err(PermitError::OtherTool)));
        assert!(matches!(check(&permit, &clock, &json!({"zone": "UTC"}), now), Err(PermitError::OtherArguments)));
        assert!(matches!(check(&permit, &clock, &args, now + PERMIT_LIFETIME), Err(PermitError::Expired)));
        assert!(matches!(check(&permit, &clock, &args, now - SignedDuration::from_mins(5)), Err(PermitError::Expired)));
        let forged = claims(now).sign(&other).unwrap();
        assert!(matches!(check(&forged, &clock, &args, now), Err(PermitError::Forged(_))));
    }

    #[test]
    fn a_permit_that_lives_too_long_is_refused_even_if_signed() {
        let policy = SigningKey::from_seed([1; 32]);
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let mut long = claims(now);
        long.exp += 3600;
        let permit = long.sign(&policy).unwrap();
        let verdict = permit.verify(
            &policy.public(),
            Family::Wasm,
            &"clock".parse().unwrap(),
            &json!({"zone": "Asia/Tokyo"}),
            now,
        );
        assert!(matches!(verdict, Err(PermitError::Expired)));
    }
}
