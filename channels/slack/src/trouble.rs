//! What a person has to mend, in words that name the token, scope or setting, and what Slack's error codes mean for us.

use proto::admin::Condition;

/// Something that trying again does not help against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is the matter.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// What a code of the Web API asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Token, scope or workspace: a person must act.
    Fatal,
    /// The place to post to does not exist or does not let us.
    Destination,
    /// Slack does not take this content; plainer content may pass.
    Content,
    /// The message was posted before.
    Posted,
    /// It may pass later.
    Retry,
}

const FATAL: [&str; 13] = [
    "account_inactive",
    "ekm_access_denied",
    "forbidden_team",
    "invalid_auth",
    "missing_scope",
    "no_permission",
    "not_allowed_token_type",
    "not_authed",
    "org_login_required",
    "team_disabled",
    "token_expired",
    "token_revoked",
    "user_removed_from_team",
];

const DESTINATION: [&str; 13] = [
    "as_user_not_supported",
    "cannot_reply_to_message",
    "channel_not_found",
    "invalid_arguments",
    "invalid_thread_ts",
    "is_archived",
    "is_inactive",
    "message_limit_exceeded",
    "messages_tab_disabled",
    "not_in_channel",
    "thread_locked",
    "thread_not_found",
    "user_not_found",
];

const CONTENT: [&str; 11] = [
    "block_mismatch",
    "invalid_blocks",
    "invalid_blocks_format",
    "markdown_text_conflict",
    "markdown_text_too_long",
    "metadata_too_large",
    "msg_blocks_too_long",
    "msg_blocks_too_many",
    "msg_too_long",
    "no_text",
    "too_many_attachments",
];

/// Refusals of a client message id that was used before: the first attempt went through.
const POSTED: [&str; 3] = ["duplicate_client_msg_id", "duplicate_message", "duplicate_message_not_found"];

/// Sorts a code. Unknown codes are tried again: what Slack invents tomorrow must not make a reply disappear.
pub(crate) fn classify(code: &str) -> Class {
    if FATAL.contains(&code) {
        Class::Fatal
    } else if DESTINATION.contains(&code) || code.starts_with("restricted_action") {
        Class::Destination
    } else if CONTENT.contains(&code) {
        Class::Content
    } else if POSTED.contains(&code) {
        Class::Posted
    } else {
        Class::Retry
    }
}

impl Trouble {
    /// What a fatal code of the Web API means. `needed` is the scope that Slack names with `missing_scope`.
    pub(crate) fn of_code(code: &str, needed: Option<&str>) -> Self {
        let hint = match (code, needed) {
            ("missing_scope", Some("connections:write")) => APP_TOKEN.to_owned(),
            ("missing_scope", Some(scope)) => missing_scopes(&[scope]),
            ("missing_scope", None) => missing_scopes(&[]),
            ("not_allowed_token_type", _) => {
                format!("app-token must be the app-level token (xapp-), bot-token the bot token (xoxb-). {APP_TOKEN}")
            }
            ("team_disabled" | "forbidden_team" | "org_login_required" | "ekm_access_denied", _) => {
                "The workspace does not let the app in: ask its administrator.".to_owned()
            }
            _ => TOKENS.to_owned(),
        };
        Self { detail: format!("Slack says {code}"), hint }
    }

    /// Socket Mode is off.
    pub(crate) fn link_disabled() -> Self {
        Self {
            detail: "Socket Mode is switched off for the app (link_disabled)".to_owned(),
            hint: "On api.slack.com/apps open the app, Socket Mode, switch it on, then `docker compose restart channel-slack`."
                .to_owned(),
        }
    }

    /// The scopes that the bot token does not have.
    pub(crate) fn scopes(missing: &[&str]) -> Self {
        Self { detail: format!("the bot token lacks {}", missing.join(", ")), hint: missing_scopes(missing) }
    }

    /// As `nachos doctor` shows it.
    pub(crate) fn condition(&self, name: &str) -> Condition {
        Condition { name: name.to_owned(), ok: false, detail: self.detail.clone(), hint: Some(self.hint.clone()) }
    }
}

const APP_TOKEN: &str = "On api.slack.com/apps open the app, Basic Information, App-Level Tokens, and make one with \
     connections:write; then `./nachos secret set channel-slack app-token`.";

const TOKENS: &str = "The token is wrong or was revoked: take the tokens from api.slack.com/apps (bot token: Install App; \
     app token: Basic Information, App-Level Tokens), then `./nachos secret set channel-slack bot-token` and the same with \
     app-token.";

fn missing_scopes(scopes: &[&str]) -> String {
    let names = if scopes.is_empty() { "the scopes of `nachos slack manifest`".to_owned() } else { scopes.join(", ") };
    format!(
        "On api.slack.com/apps open the app, OAuth & Permissions, add {names} to the bot token's scopes, and install it again; then `docker compose restart channel-slack`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_scope_or_the_token() {
        assert!(Trouble::of_code("missing_scope", Some("chat:write")).hint.contains("chat:write"));
        assert!(Trouble::of_code("missing_scope", Some("connections:write")).hint.contains("App-Level Tokens"));
        assert!(Trouble::of_code("not_allowed_token_type", None).hint.contains("xapp-"));
        assert!(Trouble::of_code("token_revoked", None).hint.contains("bot-token"));
        assert!(Trouble::scopes(&["users:read"]).detail.contains("users:read"));
    }

    #[test]
    fn an_unknown_code_is_tried_again() {
        let sorted = [
            ("invalid_auth", Class::Fatal),
            ("channel_not_found", Class::Destination),
            ("restricted_action_read_only_channel", Class::Destination),
            ("msg_too_long", Class::Content),
            ("duplicate_message_not_found", Class::Posted),
            ("internal_error", Class::Retry),
            ("invented_tomorrow", Class::Retry),
        ];
        for (code, class) in sorted {
            assert_eq!(classify(code), class, "{code}");
        }
    }
}
