//! Slack's markup to plain text: the agent's own mention goes, names stand for ids, links are readable, entities are unescaped.

use std::collections::HashMap;

/// Most people whose names are looked up for one message: each may cost a call to Slack.
const MAX_NAMES: usize = 10;

/// The users that a text mentions, without `me`.
pub(crate) fn mentioned(text: &str, me: &str) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    for piece in pieces(text) {
        if let Piece::Special(inside) = piece
            && let Some(user) = inside.strip_prefix('@')
        {
            let (user, label) = labelled(user);
            if user != me && label.is_none() && !users.iter().any(|known| known == user) {
                users.push(user.to_owned());
            }
        }
    }
    users.truncate(MAX_NAMES);
    users
}

/// The text as a person reads it.
pub(crate) fn clean(text: &str, me: &str, names: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(&unescape(text)),
            Piece::Special(inside) => special(&mut out, inside, me, names),
        }
    }
    out.trim().to_owned()
}

enum Piece<'a> {
    Text(&'a str),
    /// What stands between `<` and `>`. People's own angle brackets arrive as entities.
    Special(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        let Some((inside, tail)) = after.split_once('>') else {
            break;
        };
        found.push(Piece::Text(before));
        found.push(Piece::Special(inside));
        rest = tail;
    }
    found.push(Piece::Text(rest));
    found
}

fn special(out: &mut String, inside: &str, me: &str, names: &HashMap<String, String>) {
    let (target, label) = labelled(inside);
    let label = label.map(unescape);
    if let Some(user) = target.strip_prefix('@') {
        mention(out, user, label, me, names);
    } else if let Some(channel) = target.strip_prefix('#') {
        out.push('#');
        out.push_str(&label.unwrap_or_else(|| channel.to_owned()));
    } else if let Some(command) = target.strip_prefix('!') {
        out.push_str(&command_text(command, label));
    } else {
        out.push_str(&link(&unescape(target), label));
    }
}

fn mention(out: &mut String, user: &str, label: Option<String>, me: &str, names: &HashMap<String, String>) {
    if user == me {
        // `<@bot> hi` and `hi <@bot>, there` both read well when one space goes with the mention.
        if out.ends_with(' ') {
            out.pop();
        }
        return;
    }
    out.push('@');
    out.push_str(label.as_ref().or_else(|| names.get(user)).map_or(user, String::as_str));
}

/// `<!here>`, `<!subteam^S1|@team>`, `<!date^…|fallback>`.
fn command_text(command: &str, label: Option<String>) -> String {
    label.unwrap_or_else(|| {
        let name = command.strip_prefix("subteam^").unwrap_or(command);
        format!("@{name}")
    })
}

fn link(target: &str, label: Option<String>) -> String {
    let bare = target.strip_prefix("mailto:").or_else(|| target.strip_prefix("tel:")).unwrap_or(target);
    match label {
        Some(label) if label == bare || bare.split_once("://").is_some_and(|(_, rest)| rest == label) => {
            bare.to_owned()
        }
        Some(label) => format!("{label} ({bare})"),
        None => bare.to_owned(),
    }
}

fn labelled(inside: &str) -> (&str, Option<&str>) {
    match inside.split_once('|') {
        Some((target, label)) if !label.is_empty() => (target, Some(label)),
        Some((target, _)) => (target, None),
        None => (inside, None),
    }
}

/// The three entities that Slack uses; `&amp;` last, so that `&amp;lt;` stays `&lt;`.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        let names = HashMap::from([("U1".to_owned(), "Ann".to_owned())]);
        clean(text, "U0BOT", &names)
    }

    #[test]
    fn markup_becomes_text() {
        let table = [
            ("<@U0BOT> 1 &lt; 2 &amp;&amp; 3 &gt; 2?", "1 < 2 && 3 > 2?"),
            ("hi <@U0BOT|nachos>, all well?", "hi, all well?"),
            ("ask <@U1> or <@U2> or <@U3|Cy>", "ask @Ann or @U2 or @Cy"),
            ("<#C1|general> <#C2> <#C3|>", "#general #C2 #C3"),
            ("<!here> <!subteam^S1|@team> <!subteam^S2> <!date^1^x|May 1>", "@here @team @S2 May 1"),
            ("<https://a.b/?x=1&amp;y=2>", "https://a.b/?x=1&y=2"),
            ("<https://a.b|the site> <http://a.b|a.b>", "the site (https://a.b) http://a.b"),
            ("<mailto:a@b.c|a@b.c>", "a@b.c"),
            ("&amp;lt;@U1&amp;gt;", "&lt;@U1&gt;"),
            ("a < b <", "a < b <"),
            ("  <@U0BOT>  ", ""),
            ("```\nif a &lt; b\n```", "```\nif a < b\n```"),
        ];
        for (text, expected) in table {
            assert_eq!(cleaned(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_person_typed_cannot_pose_as_a_mention() {
        assert!(mentioned("&lt;@U1&gt;", "U0BOT").is_empty());
    }

    #[test]
    fn names_are_looked_up_once_for_a_bounded_number_of_people() {
        assert_eq!(mentioned("<@U0BOT> <@U1> <@U2|B> <@U1> <@U3>", "U0BOT"), ["U1", "U3"]);
        let many: String = (0..50).map(|n| format!("<@U{n}>")).collect();
        assert_eq!(mentioned(&many, "U0BOT").len(), MAX_NAMES);
    }
}
