//! What a turn does, told as a person would tell it. The world around it is played by a small script: what policy says of each tool,
//! what the model answers, what runners give.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;
use proto::channel::ReplyKind;
use proto::keys::SigningKey;
use proto::permit::PermitClaims;
use proto::policy::Decision;
use proto::tool::{Effects, ToolOutcome, ToolOutput};
use proto::{Family, Name, RefusalCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const LIMITS: Limits = Limits { steps: 4, tool_calls: 3, tokens: 1000, result_bytes: 200 };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tool(tool: &str, repeatable: bool) -> Manifest {
    Manifest {
        v: 1,
        name: name(tool),
        family: Family::Wasm,
        description: String::new(),
        parameters: json!({"type": "object"}),
        effects: Effects { idempotent: repeatable, ..Effects::default() },
        limits: Default::default(),
    }
}

fn yes() -> Decision {
    Decision::Allow { id: Uuid::nil(), policies: vec![], call: None }
}

fn permit(tool: &Name, arguments: &Value) -> Decision {
    let claims = PermitClaims {
        jti: Uuid::nil(),
        iss: String::new(),
        aud: tool.clone(),
        sub: "cli/ann".into(),
        family: Family::Wasm,
        session: "s".into(),
        turn: Uuid::nil(),
        call: "c".into(),
        args: proto::canonical::digest_of_json(arguments).unwrap(),
        salt: proto::content::Salt::random(),
        decision: Uuid::nil(),
        policy_set: "sha256:0".into(),
        iat: 0,
        exp: 0,
    };
    let permit = claims.issued(Timestamp::UNIX_EPOCH).sign(&SigningKey::from_seed([1; 32])).unwrap();
    Decision::allow_tool(Uuid::nil(), vec![], permit, tool.clone(), Family::Wasm, arguments.clone())
}

fn deny(reason: &str) -> Decision {
    Decision::Deny { id: Uuid::nil(), reason: reason.into(), policies: vec![] }
}

fn ask(prompt: &str) -> Decision {
    Decision::Ask { id: Uuid::nil(), prompt: prompt.into(), policies: vec![] }
}

fn refusal(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, reason)
}

fn calls(calls: &[(&str, &str, Value)]) -> Answer {
    let tool_calls = calls.iter().map(|(id, name, arguments)| ToolUse {
        id: (*id).into(),
        name: (*name).into(),
        arguments: arguments.clone(),
    });
    Answer {
        text: String::new(),
        tool_calls: tool_calls.collect(),
        state: None,
        finish: FinishReason::ToolCalls,
        usage: Usage { input: 10, output: 5, cached: 0 },
    }
}

fn says(text: &str) -> Answer {
    Answer { text: text.into(), finish: FinishReason::Stop, ..calls(&[]) }
}

fn output(text: &str) -> Event {
    let outcome = ToolOutcome::Ok { text: text.into() };
    Event::ToolFinished(ToolOutput { v: 1, run: Uuid::nil(), outcome, micros: 1, taint: BTreeSet::new() })
}

fn not_run(may_pass: bool) -> Event {
    Event::ToolNotRun { reason: "the audit log is away".into(), may_pass }
}

/// Plays everything outside the turn, and keeps what a store would keep.
struct World {
    turn: Turn,
    policy: fn(&str, &Value) -> Event,
    answers: VecDeque<Answer>,
    runs: VecDeque<Event>,
    entries: Vec<Entry>,
    asked_policy: Vec<String>,
    ran: Vec<String>,
    shown: Vec<ChatMessage>,
}

impl World {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            turn: Turn::new(LIMITS, "hello"),
            policy: |tool, arguments| Event::Decided(permit(&name(tool), arguments)),
            answers: answers.into_iter().collect(),
            runs: VecDeque::new(),
            entries: vec![],
            asked_policy: vec![],
            ran: vec![],
            shown: vec![],
        }
    }

    fn policy(mut self, policy: fn(&str, &Value) -> Event) -> Self {
        self.policy = policy;
        self
    }

    fn runs(mut self, runs: impl IntoIterator<Item = Event>) -> Self {
        self.runs = runs.into_iter().collect();
        self
    }

    /// Goes on after a crash from what was stored.
    fn crashed(mut self) -> Self {
        self.turn = Turn::new(LIMITS, "hello");
        self.turn.recall(self.entries.clone());
        self
    }

    fn until_reply(&mut self) -> Reply {
        self.until(|_| false).unwrap()
    }

    /// Plays on until the turn ends, or `crash` says that it breaks off before this step.
    fn until(&mut self, crash: impl Fn(&Step) -> bool) -> Option<Reply> {
        let mut step = self.turn.told(Event::Resumed);
        for _ in 0..100 {
            if crash(&step) {
                return None;
            }
            let event = match step {
                Step::CheckMessage => Event::Decided(yes()),
                Step::FindTools => Event::ToolsFound(vec![tool("clock", true), tool("mail", false)]),
                Step::AskModel { messages, .. } => {
                    self.shown = messages;
                    Event::Happened(Entry::ModelAnswered(self.answers.pop_front().unwrap()))
                }
                Step::CheckTool { tool, arguments, .. } => {
                    self.asked_policy.push(tool.to_string());
                    (self.policy)(tool.as_str(), &arguments)
                }
                Step::RunTool(call) => {
                    self.ran.push(call.tool().to_string());
                    self.runs.pop_front().unwrap_or_else(|| output("12:00"))
                }
                Step::Note(entry) => Event::Happened(entry),
                Step::Reply(reply) => return Some(reply),
            };
            if let Event::Happened(entry) = &event {
                self.entries.push(entry.clone());
            }
            step = self.turn.told(event);
        }
        panic!("the turn does not end");
    }

    /// What the model was told about its last call.
    fn told_model(&self) -> (&str, bool) {
        match self.shown.last() {
            Some(ChatMessage::Tool { text, is_error, .. }) => (text, *is_error),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_message_is_answered() {
    let mut world = World::new([says("hi")]);
    let reply = world.until_reply();
    assert_eq!((reply.text.as_str(), reply.kind, reply.outcome), ("hi", ReplyKind::Answer, Outcome::Answered));
    assert_eq!(world.turn.transcript(&reply).len(), 2);
}

#[test]
fn a_person_who_may_not_talk_here_is_told_why_and_nothing_is_kept() {
    let mut turn = Turn::new(LIMITS, "hello");
    assert_eq!(turn.told(Event::Resumed), Step::CheckMessage);
    let Step::Reply(reply) = turn.told(Event::Decided(deny("guests may not"))) else { panic!() };
    assert_eq!(reply.text, "I may not take this message: Guests may not.");
    assert_eq!((reply.kind, reply.outcome), (ReplyKind::Notice, Outcome::Refused));
    assert_eq!(turn.transcript(&reply), []);
}

#[test]
fn without_policy_nothing_happens_and_the_person_is_told_why() {
    let mut turn = Turn::new(LIMITS, "hello");
    turn.told(Event::Resumed);
    let Step::Reply(reply) = turn.told(Event::Undecided(refusal("the policy engine is not running"))) else { panic!() };
    assert_eq!(reply.text, "I did nothing with this message: The policy engine is not running.");
    assert_eq!(reply.outcome, Outcome::Failed);
}

#[test]
fn a_tool_runs_after_it_was_permitted_and_noted_and_its_output_is_marked_as_data() {
    let mut world = World::new([calls(&[("a", "clock", json!({}))]), says("noon")]);
    assert_eq!(world.until_reply().text, "noon");
    assert_eq!((world.asked_policy.len(), world.ran.len()), (1, 1));
    let (text, is_error) = world.told_model();
    assert!(text.starts_with("[output of the tool `clock`: untrusted data") && text.ends_with("12:00"), "{text}");
    assert!(!is_error);
    let noted = world.entries.iter().position(|entry| matches!(entry, Entry::ToolRequested { .. })).unwrap();
    assert!(matches!(world.entries[noted + 1], Entry::ToolSettled { how: How::Ran, .. }));
}

#[test]
fn a_denied_tool_does_not_run_the_model_learns_why_and_goes_on() {
    let mut world = World::new([calls(&[("a", "mail", json!({}))]), says("I may not")])
        .policy(|_, _| Event::Decided(deny("no mail from guests")));
    assert_eq!(world.until_reply().text, "I may not");
    assert!(world.ran.is_empty());
    let (text, is_error) = world.told_model();
    assert!(text.contains("No mail from guests") && text.contains("final for this turn") && is_error, "{text}");
}

#[test]
fn a_denial_is_final_for_the_turn_and_policy_is_not_asked_about_the_same_again() {
    let same = || calls(&[("a", "mail", json!({"to": "x", "cc": 1}))]);
    let other = calls(&[("a", "mail", json!({"to": "y"}))]);
    let mut world = World::new([same(), same(), other, says("ok")]).policy(|_, _| Event::Decided(deny("no")));
    world.until_reply();
    assert_eq!(world.asked_policy.len(), 2, "the same once, another once");
}

#[test]
fn where_a_human_must_approve_nothing_runs_and_that_is_said() {
    let mut world = World::new([calls(&[("a", "mail", json!({}))]), says("it needs approval")])
        .policy(|_, _| Event::Decided(ask("may it send mail?")));
    world.until_reply();
    assert!(world.ran.is_empty());
    let (text, _) = world.told_model();
    assert!(text.contains("human's approval is needed: May it send mail?") && text.contains("nothing ran"), "{text}");
}

#[test]
fn without_a_decision_the_tool_does_not_run() {
    for event in [
        |_: &str, _: &Value| Event::Undecided(refusal("the policy engine is not running")),
        |_: &str, _: &Value| Event::Decided(yes()),
    ] {
        let mut world = World::new([calls(&[("a", "clock", json!({}))]), says("sorry")]).policy(event);
        world.until_reply();
        assert!(world.ran.is_empty());
        assert!(world.told_model().0.starts_with("Nothing ran"), "{:?}", world.told_model());
    }
}

#[test]
fn what_the_model_got_wrong_it_is_told_in_words() {
    for (tool, arguments, words) in [
        ("rocket", json!({}), "There are: clock, mail."),
        ("clock", json!("{\"zone\":"), "must be one JSON object"),
        ("*", json!({}), "There is no tool"),
    ] {
        let mut world = World::new([calls(&[("a", tool, arguments)]), says("sorry")]);
        world.until_reply();
        assert!(world.asked_policy.is_empty() && world.ran.is_empty());
        let (text, is_error) = world.told_model();
        assert!(text.contains(words) && is_error, "{text}");
    }
}

#[test]
fn several_calls_run_in_order_and_each_has_its_outcome_even_with_one_id() {
    let answer = calls(&[("", "clock", json!({})), ("x", "clock", json!({"n": 1})), ("x", "mail", json!({}))]);
    let mut world = World::new([answer, says("done")]);
    world.until_reply();
    assert_eq!(world.ran, ["clock", "clock", "mail"]);
    let ids: BTreeSet<_> = world
        .shown
        .iter()
        .filter_map(|message| match message {
            ChatMessage::Tool { call, .. } => Some(call.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_unknown_outcome_is_repeated_once_with_a_fresh_permit_where_the_tool_may_repeat() {
    let mut world = World::new([calls(&[("a", "clock", json!({}))]), says("noon")]).runs([Event::OutcomeUnknown]);
    world.until_reply();
    assert_eq!((world.asked_policy.len(), world.ran.len()), (2, 2));
    assert!(!world.told_model().1);
    let twice = [Event::OutcomeUnknown, Event::OutcomeUnknown];
    let mut world = World::new([calls(&[("a", "clock", json!({}))]), says("?")]).runs(twice);
    world.until_reply();
    assert_eq!(world.ran.len(), 2);
    assert!(world.told_model().0.starts_with("The outcome is unknown"));
}

#[test]
fn an_unknown_outcome_of_any_other_tool_is_not_repeated_and_said() {
    let mut world = World::new([calls(&[("a", "mail", json!({}))]), says("unsure")]).runs([Event::OutcomeUnknown]);
    world.until_reply();
    assert_eq!(world.ran.len(), 1);
    assert!(world.told_model().0.contains("may or may not have taken effect"));
}

#[test]
fn a_repeat_that_is_refused_leaves_the_first_run_unknown() {
    let runs = [Event::OutcomeUnknown, not_run(false)];
    let mut world = World::new([calls(&[("a", "clock", json!({}))]), says("unsure")]).runs(runs);
    world.until_reply();
    assert!(world.told_model().0.starts_with("The outcome is unknown"), "{:?}", world.told_model());
}

#[test]
fn a_runner_that_could_not_run_it_just_now_is_asked_again_with_a_fresh_permit_where_the_tool_may_repeat() {
    for (tool, may_pass, permits) in [("clock", true, 2), ("clock", false, 1), ("mail", true, 1)] {
        let mut world = World::new([calls(&[("a", tool, json!({}))]), says("ok")]).runs([not_run(may_pass)]);
        world.until_reply();
        assert_eq!(world.asked_policy.len(), permits, "{tool}");
        assert_eq!(world.told_model().0.starts_with("The tool did not run"), permits == 1, "{tool}");
    }
}

#[test]
fn a_turn_goes_on_after_a_crash_at_every_step_without_doing_anything_twice() {
    let script = || [calls(&[("a", "mail", json!({})), ("b", "clock", json!({}))]), says("done")];
    let steps = {
        let mut world = World::new(script());
        let count = std::cell::Cell::new(0);
        world.until(|_| {
            count.set(count.get() + 1);
            false
        });
        count.get()
    };
    for crash_at in 1..=steps {
        let mut world = World::new(script());
        let seen = std::cell::Cell::new(0);
        world.until(|_| {
            seen.set(seen.get() + 1);
            seen.get() == crash_at
        });
        let mut world = world.crashed();
        let reply = world.until_reply();
        assert_eq!(reply.text, "done", "crash before step {crash_at}");
        assert!(world.ran.iter().filter(|tool| *tool == "mail").count() <= 1, "crash before step {crash_at}");
    }
}

#[test]
fn a_crash_while_a_tool_runs_is_an_unknown_outcome() {
    for (tool, runs_again) in [("mail", false), ("clock", true)] {
        let mut world = World::new([calls(&[("a", tool, json!({}))]), says("ok")]);
        assert!(world.until(|step| matches!(step, Step::RunTool(_))).is_none());
        let mut world = world.crashed();
        world.until_reply();
        assert_eq!(!world.ran.is_empty(), runs_again, "{tool}");
        assert_eq!(world.told_model().0.starts_with("The outcome is unknown"), !runs_again, "{tool}");
    }
}

#[test]
fn a_model_that_calls_tools_in_circles_is_stopped() {
    let circle = || (0..10).map(|n| calls(&[("a", "clock", json!({"n": n}))]));
    let mut world = World::new(circle());
    let reply = world.until_reply();
    assert_eq!((reply.outcome, reply.kind), (Outcome::Limit, ReplyKind::Notice));
    assert!(reply.text.contains("limit of 4 model requests"), "{}", reply.text);
    assert_eq!(world.ran.len(), 3, "the limit of tool calls holds as well");
    assert!(
        world
            .turn
            .transcript(&reply)
            .iter()
            .any(|m| matches!(m, ChatMessage::Tool { text, .. } if text.contains("limit of 3 tool calls")))
    );
}

#[test]
fn a_turn_costs_no_more_tokens_than_it_may() {
    let mut dear = calls(&[("a", "clock", json!({}))]);
    dear.usage.input = 2000;
    let reply = World::new([dear]).until_reply();
    assert!(reply.text.contains("limit of 1000 tokens"), "{}", reply.text);
    let mut last = says("dear but done");
    last.usage.input = 2000;
    assert_eq!(World::new([last]).until_reply().text, "dear but done");
}

#[test]
fn when_time_is_up_the_person_learns_that_a_tool_may_have_taken_effect() {
    let mut world = World::new([calls(&[("a", "mail", json!({})), ("b", "clock", json!({}))])]);
    world.until(|step| matches!(step, Step::RunTool(_)));
    let Step::Reply(reply) = world.turn.told(Event::TimeIsUp) else { panic!() };
    assert_eq!(reply.outcome, Outcome::Limit);
    assert!(reply.text.contains("`mail` was running"), "{}", reply.text);
    let transcript = world.turn.transcript(&reply);
    assert_eq!(transcript.len(), 5, "every call has an outcome and the reply is the last word: {transcript:?}");
}

#[test]
fn what_the_model_did_not_say_well_is_said_for_it() {
    let finished = |text: &str, finish| World::new([Answer { finish, ..says(text) }]).until_reply();
    assert_eq!(finished(" ", FinishReason::Stop).outcome, Outcome::Failed);
    assert!(finished("half", FinishReason::Length).text.starts_with("half\n\n_(The answer was cut off"));
    let refused = finished("I cannot", FinishReason::Refused);
    assert_eq!((refused.outcome, refused.kind), (Outcome::Refused, ReplyKind::Notice));
    let failed = {
        let mut world = World::new([]);
        world.until(|step| matches!(step, Step::AskModel { .. }));
        world.turn.told(Event::ModelFailed(refusal("the provider is down")))
    };
    assert!(matches!(failed, Step::Reply(reply) if reply.text.ends_with("The provider is down.")));
}

#[test]
fn a_long_result_is_cut_and_says_so() {
    let long = [output(&"x".repeat(500))];
    let mut world = World::new([calls(&[("a", "clock", json!({}))]), says("ok")]).runs(long);
    world.until_reply();
    let (text, _) = world.told_model();
    assert!(text.contains("only the first 200 of 500 bytes") && text.len() < 320, "{text}");
}

#[test]
fn steps_that_do_not_fit_together_end_the_turn_in_words() {
    let mut turn = Turn::new(LIMITS, "hello");
    turn.recall([Entry::Admitted { text: "hello".into() }, Entry::ToolRequested { call: "ghost".into() }]);
    let Step::Reply(reply) = turn.told(Event::Resumed) else { panic!() };
    assert_eq!(reply.outcome, Outcome::Failed);
}
