//! What a tool may do to its host, and how the host ends it. Beside every attack stands its control: a good call on the
//! same host, right after.

use std::time::{Duration, Instant};

use tools_wasm::{Code, Limit, Outcome, PLACES};

use crate::handmade::Handmade;
use crate::{Bench, built};

fn misbehave() -> Bench {
    let bench = Bench::new(&[built(true)]);
    assert_eq!(bench.catalogue.refused(), []);
    bench
}

impl Bench {
    async fn mode(&self, mode: &str) -> Outcome {
        self.call("misbehave", &format!(r#"{{"mode":"{mode}"}}"#)).await
    }

    /// A good call works, in an instance that has seen no other call.
    async fn control(&self) {
        let expected = r#"{"done":true,"calls":1}"#;
        assert_eq!(self.mode("behave").await, Outcome::Ok(expected.to_owned()));
    }
}

#[track_caller]
fn limit(outcome: Outcome, expected: Limit, part: &str) {
    match outcome {
        Outcome::Limit { limit, message } if limit == expected => {
            assert!(message.contains(part), "{message}")
        }
        other => panic!("expected the {expected} limit: {other:?}"),
    }
}

#[track_caller]
fn crashed(outcome: Outcome, part: &str) {
    match outcome {
        Outcome::Crashed { message } => assert!(message.contains(part), "{message}"),
        other => panic!("expected a crash: {other:?}"),
    }
}

#[tokio::test]
async fn an_endless_loop_is_ended_at_the_tools_time_limit() {
    let bench = misbehave();
    limit(bench.mode("loop").await, Limit::Time, "300 ms");
    bench.control().await;
}

#[tokio::test]
async fn an_endless_loop_is_ended_at_the_callers_deadline_when_that_is_earlier() {
    let bench = misbehave();
    let tool = bench.tool("misbehave");
    let deadline = Instant::now() + Duration::from_millis(50);
    let outcome = bench.host.call(&tool, r#"{"mode":"loop"}"#.to_owned(), deadline).await;
    let Outcome::Limit { limit: Limit::Time, message } = outcome else { panic!("{outcome:?}") };
    assert!(!message.contains("300 ms"), "{message}");
    bench.control().await;
}

#[tokio::test]
async fn a_memory_bomb_is_ended_at_the_memory_limit() {
    let bench = misbehave();
    limit(bench.mode("memory").await, Limit::Memory, "16777216 bytes");
    bench.control().await;
}

#[tokio::test]
async fn a_stack_overflow_is_ended() {
    let bench = misbehave();
    limit(bench.mode("stack").await, Limit::Stack, "nested");
    bench.control().await;
}

#[tokio::test]
async fn too_much_output_is_refused_whether_it_was_read_or_not() {
    let bench = misbehave();
    limit(bench.mode("output").await, Limit::Output, "4096 bytes");
    limit(bench.mode("huge_output").await, Limit::Output, "4096 bytes");
    bench.control().await;
}

#[tokio::test]
async fn a_huge_log_line_never_reaches_the_host() {
    let bench = misbehave();
    limit(bench.mode("huge_log").await, Limit::Output, "4096 bytes");
    bench.control().await;
}

#[tokio::test]
async fn endless_logging_costs_nothing_but_the_tools_own_time() {
    let bench = misbehave();
    assert!(matches!(bench.mode("log").await, Outcome::Ok(_) | Outcome::Limit { limit: Limit::Time, .. }));
    bench.control().await;
}

#[tokio::test]
async fn a_panic_and_a_trap_are_told_with_the_tools_last_words() {
    let bench = misbehave();
    crashed(bench.mode("panic").await, "misbehave was asked to panic");
    crashed(bench.mode("trap").await, "unreachable");
    bench.control().await;
}

#[tokio::test]
async fn a_long_error_message_is_cut() {
    let bench = misbehave();
    match bench.mode("huge_error").await {
        Outcome::Failed { code: Code::Failed, message } => assert_eq!(message.len(), 2000),
        other => panic!("{other:?}"),
    }
    bench.control().await;
}

#[tokio::test]
async fn attacks_side_by_side_do_not_disturb_good_calls() {
    let bench = misbehave();
    for _ in 0..3 {
        let (loops, memory, stack, panics, ()) = tokio::join!(
            bench.mode("loop"),
            bench.mode("memory"),
            bench.mode("stack"),
            bench.mode("panic"),
            bench.control()
        );
        limit(loops, Limit::Time, "");
        limit(memory, Limit::Memory, "");
        limit(stack, Limit::Stack, "");
        crashed(panics, "");
    }
}

#[tokio::test]
async fn when_all_places_are_taken_a_call_waits_no_longer_than_its_deadline() {
    let bench = misbehave();
    let tool = bench.tool("misbehave");
    let soon = Instant::now() + Duration::from_millis(100);
    let mut taken: Vec<_> = (0..PLACES).map(|_| Box::pin(bench.mode("loop"))).collect();
    let first_poll = std::future::poll_fn(|context| {
        taken.iter_mut().for_each(|call| assert!(call.as_mut().poll(context).is_pending()));
        std::task::Poll::Ready(())
    });
    first_poll.await;
    limit(bench.host.call(&tool, r#"{"mode":"behave"}"#.to_owned(), soon).await, Limit::Busy, "not started");
    for call in taken {
        limit(call.await, Limit::Time, "");
    }
    bench.control().await;
}

#[tokio::test]
async fn handmade_components_meet_the_same_limits() {
    let handmade = Handmade::new();
    handmade.tool("good", &Handmade::answers(r#"{\22ok\22:true}"#));
    handmade.tool("recursion", &Handmade::run("(func $deeper (call $deeper) (call $deeper))", "(call $deeper)"));
    handmade.tool("spin", &Handmade::run("", "(loop (br 0))"));
    handmade.tool("start", &Handmade::run("(func $spin (loop (br 0))) (start $spin)", ""));
    handmade.tool("grow", &Handmade::run("", "(loop (drop (memory.grow (i32.const 16))) (br 0))"));
    handmade.tool("born-big", &Handmade::run("(memory 512)", ""));
    handmade.tool("two-memories", &Handmade::run("(memory 200) (memory 200)", ""));
    handmade.tool("words", &Handmade::answers("not json"));
    handmade.tool("nothing", &Handmade::answers(""));
    handmade.tool("outside", &Handmade::run("", "(drop (i32.load (i32.const 0x7fffffff)))"));
    handmade.tool("zero", &Handmade::run("", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"));
    let bench = Bench::new(&[handmade.folder()]);
    assert_eq!(bench.catalogue.refused(), []);
    for (tool, expected) in [
        ("recursion", Limit::Stack),
        ("spin", Limit::Time),
        ("start", Limit::Time),
        ("grow", Limit::Memory),
        ("born-big", Limit::Memory),
        ("two-memories", Limit::Memory),
    ] {
        limit(bench.call(tool, "{}").await, expected, "");
        assert_eq!(bench.call("good", "{}").await, Outcome::Ok(r#"{"ok":true}"#.to_owned()), "after {tool}");
    }
    for (tool, part) in
        [("words", "not JSON"), ("nothing", "not JSON"), ("outside", "out of bounds"), ("zero", "divide by zero")]
    {
        crashed(bench.call(tool, "{}").await, part);
        assert_eq!(bench.call("good", "{}").await, Outcome::Ok(r#"{"ok":true}"#.to_owned()), "after {tool}");
    }
}
