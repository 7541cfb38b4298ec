"""How a run goes, besides its model, data, optimizer and schedule.

Each key has the default and the meaning of a key of the YAML configs: fbnet_plugin.engine.lazy_config.TRAIN_KEYS says
which. Lengths in epochs take the place of those in iterations where they are not 0. There is no
SOLVER.REFERENCE_WORLD_SIZE: on another number of GPUs than the 8 that the configs are written for, batch, learning rate
and lengths are given as values.
"""

train = dict(
    output_dir="./output",
    init_checkpoint="",
    device="cuda",
    seed=-1,
    cudnn_benchmark=False,
    max_iter=40000,
    epochs=0,
    stop_epoch=0,
    accumulation_steps=1,
    amp=dict(enabled=False, dtype="float16"),
    ema=dict(enabled=False, decay=0.9998, warmup=True, device=""),
    checkpointer=dict(period=5000, epochs=0),
    eval_period=0,
    eval_epochs=0,
    channels_last=False,
    compile="",
    teacher=dict(config="", opts=[], weights="", cache=""),
)
