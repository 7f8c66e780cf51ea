//! What a turn costs: from a stored message to its reply, by the offline model, through all processes.

use std::time::Duration;

use proto::Component;
use tokio::time::Instant;

use crate::Stage;
use crate::measure::{Series, cpu_of};
use crate::report::{Budget, Report};

/// Turns of each kind.
const TURNS: usize = 200;

/// Turns of one conversation: a new one each time would be cheaper than life, an endless one dearer.
const IN_A_CONVERSATION: usize = 5;

/// What a turn may cost in all our processes.
const CPU: Duration = Duration::from_micros(500);

/// Without and with a tool, one by one; then many at once.
pub async fn turns(report: &mut Report, stage: &mut Stage) {
    for (kind, text) in [("without a tool", "hello"), ("with one tool", "what is 12.5% of 840?")] {
        let conversation = |number: usize| format!("{kind}-{}", number / IN_A_CONVERSATION);
        ask(stage, &conversation(TURNS), text).await;
        let ours = processes(stage);
        let bus = [stage.server.pid()];
        let all = async {
            let mut took = Vec::with_capacity(TURNS);
            for number in 0..TURNS {
                let start = Instant::now();
                ask(stage, &conversation(number), text).await;
                took.push(start.elapsed());
            }
            Series::of(took)
        };
        let ((series, our_cpu), bus_cpu) = cpu_of(&bus, cpu_of(&ours, all)).await;
        report.latency(&format!("turn {kind}, from the stored message to the reply"), series, None);
        let each = |cpu: Duration| cpu / u32::try_from(TURNS).expect("a small number");
        let budget = Budget::time(each(our_cpu), CPU, "≤ 0.5 ms");
        report.time(&format!("CPU of a turn {kind}, all our processes"), each(our_cpu), budget);
        report.time(&format!("CPU of a turn {kind}, the bus"), each(bus_cpu), None);
    }
    at_once(report, stage).await;
}

async fn at_once(report: &mut Report, stage: &mut Stage) {
    let start = Instant::now();
    for number in 0..TURNS {
        stage.person.write(&format!("at-once-{number}"), "what is 12.5% of 840?").await;
    }
    for _ in 0..TURNS {
        stage.person.reply().await;
    }
    let rate = TURNS as f64 / start.elapsed().as_secs_f64();
    report.figure(&format!("{TURNS} turns with one tool, all at once"), &format!("{rate:.0} turns/s"), None);
}

async fn ask(stage: &mut Stage, conversation: &str, text: &str) {
    let reply = stage.person.ask(conversation, text).await;
    assert!(reply.text.contains("105") || reply.text.starts_with("Hello"), "an odd answer: {}", reply.text);
}

/// Whoever takes part in a turn.
fn processes(stage: &Stage) -> Vec<u32> {
    let part = stage.stack.components().into_iter().filter(|component| *component != Component::ChannelSlack);
    part.map(|component| stage.stack.pid(component)).collect()
}
