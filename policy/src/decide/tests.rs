//! What the shipped policies say, and what any set says when something is off.

use std::path::Path;

use proto::tool::Taint;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::problem::Problems;
use crate::source::{Sources, ToolSource};

const NOW: &str = "2026-11-20T10:00:00Z";

/// The shipped policies and tools, and some tools with effects.
fn shipped() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config =
        Config { policies: root.join("policies"), tools: vec![root.join("../tools/guests")], ..Config::default() };
    let mut sources = Sources::read(&config).unwrap();
    sources.tools.extend([
        tool("mail", json!({"to": {"type": "string"}, "amount": {"type": "number"}}), [false, false, true, false]),
        tool("browse", json!({"url": {"type": "string"}}), [true, false, false, true]),
        tool("files", json!({"path": {"type": "string"}}), [false, true, false, true]),
        tool("note", json!({"text": {"type": "string"}}), [false, false, false, false]),
    ]);
    sources
}

fn tool(name: &str, properties: Value, effects: [bool; 4]) -> ToolSource {
    let [reads_untrusted, reads_private, sends_outside, read_only] = effects;
    let manifest = json!({
        "name": name, "family": "wasm", "description": "d", "parameters": {"type": "object", "properties": properties},
        "effects": {"reads_untrusted": reads_untrusted, "reads_private": reads_private, "sends_outside": sends_outside,
                    "read_only": read_only, "idempotent": false},
    });
    ToolSource { folder: name.into(), path: format!("{name}/manifest.json"), text: Ok(manifest.to_string()) }
}

fn build(sources: &Sources) -> Result<RuleSet, Problems> {
    RuleSet::build(sources, &Config::default())
}

/// The shipped tools, but these policies only.
fn only(policies: &str) -> Result<RuleSet, Problems> {
    build(&Sources { policies: [("own.cedar".to_owned(), policies.to_owned())].into(), ..shipped() })
}

fn person(text: &str) -> Principal {
    let parts: Vec<&str> = text.split('/').collect();
    let (team, user) = if parts.len() == 3 { (Some(parts[1].into()), parts[2]) } else { (None, parts[1]) };
    Principal::new(parts[0].parse().unwrap(), team, user.into()).unwrap()
}

fn call(tool: &str, arguments: Value) -> Action {
    Action::CallTool { call: "c1".into(), tool: tool.parse().unwrap(), arguments }
}

fn taint(words: &[&str]) -> BTreeSet<Taint> {
    words.iter().map(|word| serde_json::from_value(json!(word)).unwrap()).collect()
}

fn ask(rules: &RuleSet, who: &str, action: &Action, tainted: &[&str]) -> Verdict {
    let taint = taint(tainted);
    let circumstances = Circumstances { session: "s1", taint: &taint, now: NOW.parse().unwrap() };
    decide(rules, &Case { principal: &person(who), action, circumstances })
}

/// `outcome policy,policy`.
fn short(verdict: &Verdict) -> String {
    let outcome = serde_json::to_value(verdict.outcome).unwrap();
    format!("{} {}", outcome.as_str().unwrap(), verdict.policies.join(","))
}

#[test]
fn the_shipped_policies_say_what_they_should() {
    let rules = build(&shipped()).unwrap();
    assert_eq!(rules.warnings(), []);
    let model = Action::CallModel { model: "demo".parse().unwrap() };
    let clock = call("clock", json!({"zone": "Asia/Tokyo"}));
    let calc = call("calc", json!({"expression": "12.5% of 840"}));
    let text = call("text", json!({"operation": "hash", "text": "hi"}));
    let mail = call("mail", json!({"to": "a@b.c", "amount": 1.5}));
    let browse = call("browse", json!({"url": "https://example.com"}));
    let files = call("files", json!({"path": "/x"}));
    let note = call("note", json!({"text": "x"}));
    let (cli, slack, stranger) = ("cli/ann", "slack/T1/U1", "web/bob");
    let table: &[(&str, &Action, &[&str], &str)] = &[
        (cli, &Action::ReceiveMessage, &[], "allow owners-converse"),
        (cli, &model, &["untrusted", "private"], "allow owners-converse"),
        (cli, &clock, &[], "allow owners-use-tools"),
        (cli, &calc, &["untrusted"], "allow owners-use-tools"),
        (cli, &text, &[], "allow owners-use-tools"),
        (cli, &mail, &[], "ask sending-outside-asks"),
        (cli, &mail, &["untrusted"], "ask changes-after-untrusted-text-ask,sending-outside-asks"),
        (cli, &mail, &["untrusted", "private"], "deny private-data-stays-inside"),
        (cli, &note, &[], "allow owners-use-tools"),
        (cli, &note, &["untrusted"], "ask changes-after-untrusted-text-ask"),
        (cli, &files, &["untrusted"], "allow owners-use-tools"),
        (slack, &Action::ReceiveMessage, &[], "allow members-converse"),
        (slack, &model, &[], "allow members-converse"),
        (slack, &clock, &[], "allow members-use-harmless-tools"),
        (slack, &browse, &[], "allow members-use-harmless-tools"),
        (slack, &files, &[], "deny "),
        (slack, &note, &[], "deny "),
        (slack, &mail, &[], "deny "),
        (stranger, &Action::ReceiveMessage, &[], "deny "),
        (stranger, &model, &[], "deny "),
        (stranger, &clock, &[], "deny "),
        ("slack/U1", &clock, &[], "deny "),
        ("cli/T1/ann", &clock, &[], "deny "),
    ];
    for (who, action, tainted, expected) in table {
        let verdict = ask(&rules, who, action, tainted);
        assert_eq!(short(&verdict), *expected, "{who} {action:?} {tainted:?}: {}", verdict.reason);
    }
}

#[test]
fn people_fit_the_schema_although_no_call_checks_it() {
    let rules = build(&shipped()).unwrap();
    for who in ["cli/ann", "slack/T1/U1", "web/\u{202e}x"] {
        let who = person(who);
        let user = rules.words.user(&who, &who.roles(&rules.users)).unwrap();
        Entities::from_entities([user], Some(&rules.schema)).unwrap();
    }
}

#[test]
fn a_denial_says_why_and_what_to_do() {
    let rules = build(&shipped()).unwrap();
    let reason = |who, action: &Action, tainted: &[&str]| ask(&rules, who, action, tainted).reason;
    let default = reason("web/bob", &call("clock", json!({})), &[]);
    assert_eq!(
        default,
        "no policy allows web/bob to call the tool `clock`: whoever runs this installation can permit it in policy/policies \
         (docs/policy.md says how)"
    );
    assert_eq!(reason("cli/ann", &call("nothing", json!({})), &[]), "there is no tool `nothing`");
    assert_eq!(
        reason("cli/ann", &call("clock", json!({"zone": "UTC", "command": "rm"})), &[]),
        "the tool `clock` declares no argument `command`"
    );
    assert!(
        reason("cli/ann", &call("mail", json!({})), &["untrusted", "private"]).contains("start a new conversation")
    );
    assert!(reason("cli/ann", &call("mail", json!({})), &[]).ends_with("Allow it?"));
    assert!(reason("cli/ann", &call("clock", json!("zone")), &[]).contains("JSON object"));
}

#[test]
fn a_human_is_never_asked_about_what_no_policy_allows() {
    let rules = only(
        r#"@id("asks") @ask("really?") forbid(principal, action, resource);
           @id("owners") permit(principal in Nachos::Role::"owner", action, resource);"#,
    )
    .unwrap();
    assert_eq!(short(&ask(&rules, "cli/ann", &Action::ReceiveMessage, &[])), "ask asks");
    assert_eq!(short(&ask(&rules, "slack/T1/U1", &Action::ReceiveMessage, &[])), "deny ");
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies_everything_it_concerns() {
    let rules = only(
        r#"@id("all") permit(principal, action, resource);
           @id("overflow") forbid(principal, action == Nachos::Action::"receive_message", resource)
           when { context.session like "s*" && 9223372036854775807 + 1 > 0 };"#,
    )
    .unwrap();
    let verdict = ask(&rules, "cli/ann", &Action::ReceiveMessage, &[]);
    assert_eq!(short(&verdict), "deny ");
    assert!(
        verdict.reason.contains("could not be evaluated") && verdict.reason.contains("overflow"),
        "{}",
        verdict.reason
    );
    assert_eq!(short(&ask(&rules, "cli/ann", &call("clock", json!({})), &[])), "allow all");
}

#[test]
fn policies_see_arguments_teams_and_time() {
    let rules = only(
        r#"@id("cheap") permit(principal, action == Nachos::Action::"call_tool", resource == Nachos::Tool::"mail")
           when { context.arguments has amount && context.arguments.amount.lessThan(decimal("10.0")) };
           @id("team") permit(principal, action == Nachos::Action::"receive_message", resource == Nachos::Channel::"slack")
           when { principal has team && principal.team == "T1" };
           @id("mornings") permit(principal == Nachos::User::"cli/ann", action == Nachos::Action::"call_model", resource)
           when { context.now.toTime() < duration("12h") };"#,
    )
    .unwrap();
    let mail = |amount: Value| call("mail", json!({"amount": amount}));
    assert_eq!(short(&ask(&rules, "cli/ann", &mail(json!(9.9999)), &[])), "allow cheap");
    assert_eq!(short(&ask(&rules, "cli/ann", &mail(json!(10)), &[])), "deny ");
    assert_eq!(short(&ask(&rules, "cli/ann", &mail(json!(9.99999)), &[])), "deny ");
    assert_eq!(short(&ask(&rules, "slack/T1/U1", &Action::ReceiveMessage, &[])), "allow team");
    assert_eq!(short(&ask(&rules, "slack/T2/U1", &Action::ReceiveMessage, &[])), "deny ");
    let model = Action::CallModel { model: "demo".parse().unwrap() };
    assert_eq!(short(&ask(&rules, "cli/ann", &model, &[])), "allow mornings");
}

#[test]
fn only_tools_that_some_arguments_could_open_are_offered() {
    let offered = |rules: &RuleSet, who: &str, tainted: &[&str]| {
        let taint = taint(tainted);
        let circumstances = Circumstances { session: "s1", taint: &taint, now: NOW.parse().unwrap() };
        let tools = permissible(rules, &person(who), &circumstances);
        tools.iter().map(Name::to_string).collect::<Vec<_>>().join(" ")
    };
    let rules = build(&shipped()).unwrap();
    let all = "browse calc clock files mail misbehave note text";
    assert_eq!(offered(&rules, "cli/ann", &[]), all);
    assert_eq!(offered(&rules, "cli/ann", &["untrusted"]), all);
    assert_eq!(offered(&rules, "cli/ann", &["untrusted", "private"]), "browse calc clock files misbehave note text");
    assert_eq!(offered(&rules, "slack/T1/U1", &[]), "browse calc clock misbehave text");
    assert_eq!(offered(&rules, "web/bob", &[]), "");

    let rules = only(
        r#"@id("by-argument") permit(principal, action == Nachos::Action::"call_tool", resource == Nachos::Tool::"mail")
           when { context.arguments has to && context.arguments.to == "boss" };
           @id("some") permit(principal, action == Nachos::Action::"call_tool", resource)
           when { [Nachos::Tool::"clock", Nachos::Tool::"note", Nachos::Tool::"files"].contains(resource) };
           @id("no-notes") forbid(principal, action, resource == Nachos::Tool::"note");
           @id("no-etc") forbid(principal, action == Nachos::Action::"call_tool", resource)
           when { context.arguments has path && context.arguments.path like "/etc/*" };"#,
    )
    .unwrap();
    assert_eq!(offered(&rules, "web/bob", &[]), "clock files mail");
}

#[test]
fn mistakes_in_policies_are_found_when_they_are_loaded() {
    let forbid = |when: &str| {
        format!("@id(\"a\")\nforbid(principal, action == Nachos::Action::\"call_tool\", resource)\nwhen {{ {when} }};")
    };
    for (policies, expected) in [
        (String::new(), "holds no policy"),
        (forbid("resource.sends_out"), "own.cedar:3: "),
        (forbid("context.taint.untrustd"), "own.cedar:3: "),
        (forbid("context.arguments.url like \"*\""), "own.cedar:3: "),
        (forbid("principal in Nachos::Role::\"ownr\""), "own.cedar:3: "),
        (forbid("principal.team == \"T1\""), "own.cedar:3: "),
        ("@id(\"a\") permit(principal, action == Nachos::Action::\"call_tol\", resource);".into(), "own.cedar:1: "),
        ("@id(\"a\") permit(principal in Nachos::Role::\"x\", action, resource);".into(), "own.cedar:1: "),
        (
            "@id(\"a\") permit(principal, action, resource) when { context.session == \"\u{202e}x\" };".into(),
            "own.cedar:1: ",
        ),
    ] {
        let error = only(&policies).err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{policies}\n-> {error}");
    }
}

#[test]
fn a_policy_that_never_applies_is_taken_with_a_warning() {
    let rules = only(
        r#"@id("all") permit(principal, action, resource);
           @id("typo") forbid(principal, action == Nachos::Action::"call_tool", resource)
           when { context.arguments has pth && context.arguments.pth == "x" };
           @id("gone") forbid(principal, action, resource == Nachos::Tool::"clokc");"#,
    )
    .unwrap();
    let warnings: Vec<_> = rules.warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains("typo")), "{warnings:?}");
    assert!(
        warnings.iter().any(|warning| warning.contains("own.cedar:4") && warning.contains("`clokc`")),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2);
}

#[test]
fn a_new_tool_cannot_quietly_change_what_a_policy_sees() {
    let policy = r#"@id("all") permit(principal, action, resource);
        @id("etc") forbid(principal, action == Nachos::Action::"call_tool", resource)
        when { context.arguments has path && context.arguments.path == "/etc" };"#;
    let mut sources = Sources { policies: [("own.cedar".to_owned(), policy.to_owned())].into(), ..shipped() };
    sources.tools.push(tool("other", json!({"path": {"type": "object"}, "amount": {"type": "string"}}), [false; 4]));
    let rules = build(&sources).unwrap();
    assert_eq!(short(&ask(&rules, "cli/ann", &call("files", json!({"path": "/etc"})), &[])), "deny etc");

    let amount = "@id(\"a\") permit(principal, action == Nachos::Action::\"call_tool\", resource)\n\
         when { context.arguments has amount && context.arguments.amount.lessThan(decimal(\"1.0\")) };";
    sources.policies = [("own.cedar".to_owned(), amount.to_owned())].into();
    let error = build(&sources).unwrap_err().to_string();
    assert!(error.contains("disagree") && error.contains("amount"), "{error}");
}

#[test]
fn the_hash_changes_with_everything_that_decides() {
    let sources = shipped();
    let digest = |sources: &Sources, config: &Config| RuleSet::build(sources, config).unwrap().digest().to_owned();
    let base = digest(&sources, &Config::default());
    assert_eq!(digest(&sources.clone(), &Config::default()), base);
    let mut fewer_tools = sources.clone();
    fewer_tools.tools.pop();
    let mut other_text = sources.clone();
    other_text.policies.values_mut().next().unwrap().push_str("// x\n");
    let mut other_users = Config::default();
    other_users.users.pop();
    for (sources, config) in
        [(&fewer_tools, &Config::default()), (&other_text, &Config::default()), (&sources, &other_users)]
    {
        assert_ne!(digest(sources, config), base);
    }
}

/// Random numbers that are the same in every run (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.roll(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(self.roll(1 << 30) as i64 - (1 << 29)),
            3 => json!(self.roll(1 << 30) as f64 / 1000.0),
            4 => json!(u64::MAX),
            5 => json!(self.pick(&["", "Asia/Tokyo", "/etc/passwd", "\u{0}\u{202e}", "\" || true"])),
            6 => (0..self.roll(3)).map(|_| self.value(depth - 1)).collect(),
            _ => json!({ self.pick(&["a", "zone", "__entity", "__extn"]): self.value(depth - 1) }),
        }
    }

    fn action(&mut self) -> Action {
        match self.roll(8) {
            0 => Action::ReceiveMessage,
            1 => Action::CallModel { model: self.pick(&["demo", "x"]).parse().unwrap() },
            _ => {
                let tool = self.pick(&["clock", "mail", "files", "note", "browse", "text", "nothing"]);
                let names = ["zone", "to", "amount", "path", "text", "url", "operation", "bogus"];
                let count = self.roll(4);
                let arguments =
                    (0..count).map(|_| (self.pick(&names.each_ref().map(|n| *n)).to_owned(), self.value(2)));
                call(tool, Value::Object(arguments.collect()))
            }
        }
    }
}

/// One random question: who, what, taint.
fn random(dice: &mut Dice) -> (&'static str, Action, Vec<&'static str>) {
    let who = dice.pick(&["cli/ann", "slack/T1/U1", "slack/T2/U\"9", "web/bob", "cli/\u{202e}x"]);
    let tainted = [&[][..], &["untrusted"], &["private"], &["untrusted", "private"]][dice.roll(4)].to_vec();
    (who, dice.action(), tainted)
}

#[test]
fn nothing_is_allowed_where_no_policy_permits_it() {
    let rules = only("@id(\"none\") permit(principal == Nachos::User::\"nobody\", action, resource);").unwrap();
    let mut dice = Dice(7);
    for _ in 0..5_000 {
        let (who, action, tainted) = random(&mut dice);
        let verdict = ask(&rules, who, &action, &tainted);
        assert_eq!(verdict.outcome, Outcome::Deny, "{who} {action:?}");
    }
}

#[test]
fn what_the_shipped_policies_guard_is_never_allowed_and_what_is_decided_was_offered() {
    let rules = build(&shipped()).unwrap();
    let mut dice = Dice(11);
    let mut allowed = 0;
    for _ in 0..5_000 {
        let (who, action, tainted) = random(&mut dice);
        let verdict = ask(&rules, who, &action, &tainted);
        let Action::CallTool { tool, .. } = &action else { continue };
        if verdict.outcome == Outcome::Deny {
            continue;
        }
        allowed += usize::from(verdict.outcome == Outcome::Allow);
        assert!(verdict.outcome == Outcome::Ask || tool.as_str() != "mail", "{who} {action:?} {tainted:?}");
        assert!(tool.as_str() != "note" || !tainted.contains(&"untrusted") || verdict.outcome == Outcome::Ask);
        let taint = taint(&tainted);
        let circumstances = Circumstances { session: "s1", taint: &taint, now: NOW.parse().unwrap() };
        assert!(permissible(&rules, &person(who), &circumstances).contains(tool), "{who} {tool}");
    }
    assert!(allowed > 100, "the dice allowed only {allowed}");
}
