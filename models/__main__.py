"""``python -m models``: look at versions and their history, check them, judge them."""

from configs.command_line import lazy_app, run

app = lazy_app(
    "Look at the versions of the registered model and their history, check them, judge them. "
    "Every command takes --json; tables become plain text in a pipe.",
    "models.command_line",
    {
        "list": "versions:list_versions",
        "show": "versions:show_version",
        "compare": "checks:compare",
        "history": "versions:history",
        "verify": "checks:verify",
        "judge": "checks:judge",
        "watch": "checks:watch",
        "mirror": "mirror:show_mirror",
    },
)

if __name__ == "__main__":
    run(app)
