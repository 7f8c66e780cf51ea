//! The wasmtime engine, set up for code that nobody here trusts.

use std::io;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Calls that run at the same time. More would only share the same processors, and every place costs memory.
pub const PLACES: u32 = 16;

/// Largest memory a manifest may ask for. Each slot of the pool is this large, and [`PLACES`] of them at once must fit
/// into the container's limit.
pub const MAX_MEMORY: usize = 64 << 20;

/// Time between two ticks: a call is ended at most this much after its deadline.
pub const TICK: Duration = Duration::from_millis(10);

/// Native stack of one call. Deep enough for recursive parsers, and a quarter of a blocking thread's own stack, so that
/// the host code below a call always has room.
const MAX_STACK: usize = 512 << 10;

/// Components made from Python have more than 16 core instances.
pub(crate) const CORE_INSTANCES_PER_CALL: u32 = 64;

/// A fused component has one memory per part.
pub(crate) const MEMORIES_PER_CALL: u32 = 4;

/// One per module that calls indirectly, and those of the adapters between them.
pub(crate) const TABLES_PER_CALL: u32 = 8;

/// Function table entries; a Python interpreter has about 8000.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;

/// Memory that a slot keeps between calls, so that the next one need not fault it in again.
const KEEP_RESIDENT: usize = 256 << 10;

/// Slots that keep it.
const WARM_SLOTS: u32 = 8;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine does not give what the configuration needs.
    #[error("wasmtime does not start with this configuration: {0:#}")]
    Engine(wasmtime::Error),
    /// The thread that ends calls at their deadline could not be started.
    #[error("cannot start the thread that watches deadlines")]
    Ticker(#[source] io::Error),
}

/// The engine, with the thread that makes its deadlines pass. The thread ends with the engine.
pub(crate) fn start() -> Result<Engine, StartError> {
    let engine = Engine::new(&config()).map_err(StartError::Engine)?;
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("epoch".to_owned()).spawn(tick).map_err(StartError::Ticker)?;
    Ok(engine)
}

/// Everything that a tool does not need is off: what is off cannot be attacked. The advisories of 2026 decide the list.
fn config() -> Config {
    let mut config = Config::new();
    // Cranelift only: Winch, the quick compiler, had two escapes in April 2026 (CVE-2026-34987 and -35186). Its cargo
    // feature is not compiled in.
    config.cranelift_opt_level(OptLevel::Speed);
    // Deadlines by epoch: a tenth of the speed, and no loop gets out of it. Fuel would cost more and count instructions,
    // which says nothing about time.
    config.epoch_interruption(true);
    // A fresh instance per call is cheap when its memory is mapped and not copied.
    config.memory_init_cow(true);
    config.max_wasm_stack(MAX_STACK);
    // Shared memories are not counted by the store's limits.
    config.shared_memory(false);
    config.wasm_threads(false);
    config.wasm_memory64(false);
    config.wasm_relaxed_simd(false);
    // Heap corruption (GHSA-cfhf, GHSA-hw8m) and aborts in the collector, in 2026 alone. The cargo features `gc` and
    // `threads` are compiled in all the same: builds without them abort on some modules (GHSA-rc4p, GHSA-2674).
    config.wasm_gc(false);
    config.wasm_exceptions(false);
    // The asynchronous ABI overflowed the native stack (CVE-2026-115384). Its cargo feature is not compiled in; this keeps
    // its data structures out of every store too.
    config.concurrency_support(false);
    // wasm_multi_memory stays on: without it wasmtime panics on components fused from several modules.
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

/// Every admitted call finds its slots: the totals are what one call may use, times the places.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(PLACES)
        .total_core_instances(PLACES * CORE_INSTANCES_PER_CALL)
        .max_core_instances_per_component(CORE_INSTANCES_PER_CALL)
        .total_memories(PLACES * MEMORIES_PER_CALL)
        .max_memories_per_component(MEMORIES_PER_CALL)
        .max_memories_per_module(MEMORIES_PER_CALL)
        .max_memory_size(MAX_MEMORY)
        .total_tables(PLACES * TABLES_PER_CALL)
        .max_tables_per_component(TABLES_PER_CALL)
        .max_tables_per_module(TABLES_PER_CALL)
        .table_elements(TABLE_ELEMENTS)
        // Calls run on their thread's own stack, and there is no collector.
        .total_stacks(0)
        .total_gc_heaps(0)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 << 10);
    pool
}
