//! The demo model: a few deterministic rules behind the same interface as a real model, so that a fresh installation shows a whole turn
//! with policy, tools and records. It reads the last message, calls the offered tools for what it understands, and puts their results
//! into a sentence. For everything else it says what it is.

mod answer;
mod arithmetic;
mod understand;

use proto::llm::{ChatMessage, FinishReason, ModelChunk, ModelRequest, ToolUse, Usage};

use answer::Outcome;
use understand::Wish;

/// Characters of one text chunk: a few chunks for an answer, so that streaming shows.
const CHUNK: usize = 48;

/// Characters that count as one token, the usual rule of thumb.
const CHARS_PER_TOKEN: usize = 4;

/// Most tools called for one message: more questions than that are not asked in one breath.
const MAX_CALLS: usize = 8;

/// The demo model's answer to `request`, without the opening `Started`.
pub fn answer(request: &ModelRequest) -> Vec<ModelChunk> {
    let (question, since) = last_question(&request.messages);
    let outcomes = outcomes(since);
    if !outcomes.is_empty() {
        return say(request, &answer::from_outcomes(&outcomes));
    }
    let wishes = understand::wishes(question);
    let calls = calls(request, &wishes);
    if calls.is_empty() {
        return say(request, &answer::without_tools(question, &wishes));
    }
    let output = calls.iter().map(|call| call.arguments.to_string().len()).sum::<usize>();
    let mut chunks: Vec<ModelChunk> = calls.into_iter().map(ModelChunk::ToolUse).collect();
    chunks.push(finished(request, FinishReason::ToolCalls, output));
    chunks
}

/// What the person wrote last, and everything after it.
fn last_question(messages: &[ChatMessage]) -> (&str, &[ChatMessage]) {
    let is_user = |message: &ChatMessage| matches!(message, ChatMessage::User { .. });
    let at = messages.iter().rposition(is_user).unwrap_or_default();
    let since = messages.get(at..).unwrap_or_default();
    match since.split_first() {
        Some((ChatMessage::User { text }, after)) => (text, after),
        _ => ("", since),
    }
}

/// The calls made since then, each with what came of it.
fn outcomes(since: &[ChatMessage]) -> Vec<Outcome<'_>> {
    let call = |id: &str| {
        since.iter().find_map(|message| match message {
            ChatMessage::Assistant { tool_calls, .. } => tool_calls.iter().find(|call| call.id == id),
            _ => None,
        })
    };
    let outcome = |message| match message {
        &ChatMessage::Tool { call: ref id, ref tool, ref text, is_error } => {
            Some(Outcome { tool, arguments: call(id).map(|call| &call.arguments), text, is_error })
        }
        _ => None,
    };
    since.iter().filter_map(outcome).collect()
}

/// Calls for the wishes whose tool is offered. Ids differ from all others of the session, which may be long.
fn calls(request: &ModelRequest, wishes: &[Wish]) -> Vec<ToolUse> {
    let offered = |name: &str| request.tools.iter().any(|tool| tool.name.as_str() == name);
    let id = |number: usize| format!("demo-{}-{}-{number}", request.turn.simple(), request.messages.len());
    let call =
        |(number, (tool, arguments)): (usize, (&str, _))| ToolUse { id: id(number), name: tool.to_owned(), arguments };
    let wanted = wishes.iter().filter_map(Wish::call).filter(|(tool, _)| offered(tool));
    wanted.take(MAX_CALLS).enumerate().map(call).collect()
}

fn say(request: &ModelRequest, text: &str) -> Vec<ModelChunk> {
    let mut chunks: Vec<ModelChunk> = pieces(text).into_iter().map(|text| ModelChunk::Text { text }).collect();
    chunks.push(finished(request, FinishReason::Stop, text.len()));
    chunks
}

/// Cut after words, each piece about [`CHUNK`] characters; together they are the text again.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for word in text.split_inclusive(' ') {
        match pieces.last_mut() {
            Some(piece) if piece.chars().count() < CHUNK => piece.push_str(word),
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

fn finished(request: &ModelRequest, reason: FinishReason, output: usize) -> ModelChunk {
    let said = |message: &ChatMessage| match message {
        ChatMessage::User { text } | ChatMessage::Assistant { text, .. } | ChatMessage::Tool { text, .. } => text.len(),
    };
    let input = request.system.len() + request.messages.iter().map(said).sum::<usize>();
    let tokens = |length: usize| length.div_ceil(CHARS_PER_TOKEN) as u64;
    ModelChunk::Finished { reason, usage: Usage { input: tokens(input), output: tokens(output), cached: 0 } }
}

#[cfg(test)]
mod tests {
    use proto::llm::ToolSpec;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn request(messages: Vec<ChatMessage>, tools: &[&str]) -> ModelRequest {
        let tool =
            |name: &&str| ToolSpec { name: name.parse().unwrap(), description: String::new(), parameters: json!({}) };
        ModelRequest {
            v: 1,
            origin: serde_json::from_value(json!("a.b.c")).unwrap(),
            session: "s".into(),
            turn: Uuid::nil(),
            taint: Default::default(),
            model: None,
            system: String::new(),
            messages,
            tools: tools.iter().map(tool).collect(),
            max_tokens: 1000,
        }
    }

    fn user(text: &str) -> ChatMessage {
        ChatMessage::User { text: text.into() }
    }

    fn asked(text: &str) -> Vec<(String, Value)> {
        let chunks = answer(&request(vec![user(text)], &["clock", "calc", "text"]));
        let call = |chunk| match chunk {
            ModelChunk::ToolUse(call) => Some((call.name, call.arguments)),
            _ => None,
        };
        chunks.into_iter().filter_map(call).collect()
    }

    fn text(chunks: Vec<ModelChunk>) -> String {
        let text = |chunk| match chunk {
            ModelChunk::Text { text } => Some(text),
            _ => None,
        };
        chunks.into_iter().filter_map(text).collect()
    }

    fn said(question: &str, tools: &[&str]) -> String {
        text(answer(&request(vec![user(question)], tools)))
    }

    /// A turn whose tools gave these results.
    fn turn(question: &str, results: &[(&str, bool)]) -> String {
        let tools = ["clock", "calc", "text"];
        let first = answer(&request(vec![user(question)], &tools));
        let calls: Vec<ToolUse> = first
            .into_iter()
            .filter_map(|chunk| match chunk {
                ModelChunk::ToolUse(call) => Some(call),
                _ => None,
            })
            .collect();
        assert_eq!(calls.len(), results.len(), "{question}");
        let mut messages = vec![user("earlier"), user(question)];
        let tool = |(call, (text, is_error)): (&ToolUse, &(&str, bool))| ChatMessage::Tool {
            call: call.id.clone(),
            tool: call.name.clone(),
            text: (*text).into(),
            is_error: *is_error,
        };
        let tools_said: Vec<_> = calls.iter().zip(results).map(tool).collect();
        messages.push(ChatMessage::Assistant { text: String::new(), tool_calls: calls, provider_state: None });
        messages.extend(tools_said);
        text(answer(&request(messages, &tools)))
    }

    #[test]
    fn questions_become_tool_calls() {
        for (question, tool, arguments) in [
            ("what time is it in Tokyo?", "clock", json!({"zone": "Tokyo"})),
            ("What's the time in New York City right now?", "clock", json!({"zone": "New York City"})),
            ("current time in Asia/Kolkata", "clock", json!({"zone": "Asia/Kolkata"})),
            ("what day is it in Sydney?", "clock", json!({"zone": "Sydney"})),
            ("what time is it?", "clock", json!({"zone": "UTC"})),
            ("<@U123> hey, what time is it in São Paulo please", "clock", json!({"zone": "São Paulo"})),
            (
                "what time is it in Tokyo when it is 15:00 in Berlin?",
                "clock",
                json!({"zone": "Tokyo", "at": "15:00", "from": "Berlin"}),
            ),
            ("convert 3 pm from London to Tokyo", "clock", json!({"zone": "Tokyo", "at": "3 pm", "from": "London"})),
            ("what is 12.5% of 840", "calc", json!({"expression": "12.5% of 840"})),
            ("What is (2+3)*4?", "calc", json!({"expression": "(2+3)*4"})),
            ("calculate 7 times 6", "calc", json!({"expression": "7 * 6"})),
            ("1,299.90 / 12 =", "calc", json!({"expression": "1299.90 / 12"})),
            ("how much is sqrt(144) + 2^3", "calc", json!({"expression": "sqrt(144) + 2^3"})),
            ("hash this: hello world", "text", json!({"operation": "hash", "text": "hello world"})),
            ("md5 of \"abc\"", "text", json!({"operation": "hash", "text": "abc", "algorithm": "md5"})),
            ("hash abc with sha512", "text", json!({"operation": "hash", "text": "abc", "algorithm": "sha512"})),
            (
                "count words in the quick brown fox",
                "text",
                json!({"operation": "count", "text": "the quick brown fox"}),
            ),
            ("How many characters are in: Grüße?", "text", json!({"operation": "count", "text": "Grüße?"})),
            (
                "compare \"red\" with \"green\"",
                "text",
                json!({"operation": "diff", "text": "red\n", "other": "green\n"}),
            ),
        ] {
            assert_eq!(asked(question), [(tool.to_owned(), arguments)], "{question}");
        }
    }

    #[test]
    fn several_questions_in_one_message_are_asked_together() {
        let calls = asked("What time is it in Tokyo? And what is 2 + 2?");
        assert_eq!(
            calls,
            [("clock".into(), json!({"zone": "Tokyo"})), ("calc".into(), json!({"expression": "2 + 2"}))]
        );
        let calls = asked("what time is it in Tokyo and London?");
        assert_eq!(calls, [("clock".into(), json!({"zone": "Tokyo"})), ("clock".into(), json!({"zone": "London"}))]);
    }

    #[test]
    fn ids_of_calls_differ() {
        let chunks = answer(&request(vec![user("time in Tokyo and London")], &["clock"]));
        let [ModelChunk::ToolUse(one), ModelChunk::ToolUse(two), _] = chunks.as_slice() else { panic!("{chunks:?}") };
        assert_ne!(one.id, two.id);
    }

    #[test]
    fn results_become_a_sentence() {
        let clock = r#"{"text":"Saturday, 21 November 2026, 08:30:00 JST (UTC+09:00)","zone":"Asia/Tokyo"}"#;
        let sentence = turn("what time is it in Tokyo?", &[(clock, false)]);
        assert_eq!(sentence, "In Tokyo it is Saturday, 21 November 2026, 08:30:00 JST (UTC+09:00).");
        let calc = r#"{"expression":"12.5% of 840","result":"105","exact":true}"#;
        assert_eq!(turn("what is 12.5% of 840", &[(calc, false)]), "12.5% of 840 = 105.");
        let third = r#"{"expression":"1/3","result":"0.3333","exact":false,"fraction":"1/3"}"#;
        assert_eq!(turn("what is 1/3", &[(third, false)]), "1/3 ≈ 0.3333 (rounded; exactly 1/3).");
        let hash = r#"{"algorithm":"sha256","hex":"ba78","bytes":3}"#;
        assert_eq!(turn("hash this: abc", &[(hash, false)]), "The sha256 of these 3 bytes is `ba78`.");
        let count = r#"{"characters":19,"characters_without_spaces":16,"words":4,"lines":1,"bytes":19}"#;
        let sentence = turn("count words in the quick brown fox", &[(count, false)]);
        assert_eq!(sentence, "That is 4 words, 19 characters (16 without spaces) and 1 line.");
        let same = r#"{"identical":true,"added":0,"removed":0,"unified":""}"#;
        assert_eq!(turn("compare 'a' and 'a'", &[(same, false)]), "The two texts are identical.");
    }

    #[test]
    fn a_result_in_wrapping_is_found() {
        let wrapped = "untrusted output of calc:\n{\"expression\":\"1+1\",\"result\":\"2\",\"exact\":true}\nend";
        assert_eq!(turn("what is 1+1", &[(wrapped, false)]), "1+1 = 2.");
        assert!(turn("what is 1+1", &[("no JSON at all", false)]).contains("no JSON at all"));
    }

    #[test]
    fn a_denial_is_told_in_its_own_words() {
        let sentence = turn("what is 1+1", &[("denied: no rule allows calc", true)]);
        assert!(sentence.contains("`calc`") && sentence.contains("no rule allows calc"), "{sentence}");
    }

    #[test]
    fn a_tool_that_is_not_offered_is_named() {
        let sentence = said("what time is it in Tokyo?", &["calc"]);
        assert!(sentence.contains("`clock`") && sentence.contains("not offered"), "{sentence}");
    }

    #[test]
    fn for_everything_else_it_says_what_it_is() {
        for question in
            ["write a poem about the sea", "", "what is the meaning of life?", "hello", "what can you do?", "2026"]
        {
            let sentence = said(question, &["clock", "calc", "text"]);
            assert!(sentence.contains("demo"), "{question}: {sentence}");
            assert!(sentence.contains("./nachos secret set llm-proxy"), "{question}: {sentence}");
        }
    }

    #[test]
    fn text_comes_in_several_chunks_and_ends_with_usage() {
        let chunks = answer(&request(vec![user("who are you?")], &[]));
        assert!(chunks.len() > 3);
        let Some(ModelChunk::Finished { reason: FinishReason::Stop, usage }) = chunks.last() else { panic!() };
        assert!(usage.input > 0 && usage.output > 10);
    }
}
