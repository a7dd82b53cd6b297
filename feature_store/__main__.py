"""``python -m feature_store``: look at features, their stored values and their versions."""

from configs.command_line import lazy_app, run

app = lazy_app(
    "Look at features, their stored values and their versions. "
    "Every command takes --json; tables become plain text in a pipe.",
    "feature_store.command_line",
    {
        "list": "definitions:list_features",
        "describe": "definitions:describe",
        "stats": "statistics:stats",
        "get": "entities:get",
        "history": "entities:history",
        "validate": "checks:validate",
        "versions": "versions:list_versions",
        "switch-version": "versions:switch_version",
        "drop-version": "versions:drop_version",
        "append-events": "streams:append_events",
        "dead-letters": "streams:dead_letters",
        "stream-status": "streams:stream_status",
        "rebuild": "versions:rebuild",
        "simulate": "simulation:simulate_events",
    },
)

if __name__ == "__main__":
    run(app)
