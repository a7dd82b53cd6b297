"""One call of each operation by the generated client; prints what came of each as JSON.

Runs beside the generated package, in the environment of the generator: ``call.py URL KEY``.
"""

import json
import sys

from generated import AuthenticatedClient
from generated.api.deployments import show_experiment, show_model
from generated.api.explanations import explain
from generated.api.features import show_features
from generated.api.feedback import give_feedback
from generated.api.operations import health, ready, show_metrics
from generated.api.predictions import predict, predict_batch
from generated.api.receipts import explain_prediction, replay_prediction, show_receipt
from generated.models import (
    BatchRequest,
    LabelOfPrediction,
    LabelOfPredictionLabelType0,
    PredictionRequest,
)

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
found = {}


def call(operation, *arguments, **options):
    answer = operation.sync_detailed(*arguments, client=client, **options)
    found[operation.__name__.rpartition(".")[2]] = [
        int(answer.status_code),
        type(answer.parsed).__name__,
    ]
    return answer.parsed


asked = PredictionRequest(user_id=7, hours_per_week=40)
answered = call(predict, body=asked)
call(predict_batch, body=BatchRequest(rows=[asked, PredictionRequest(age=30)]))
call(explain, body=asked)
label = LabelOfPrediction(answered.prediction_id, LabelOfPredictionLabelType0.VALUE_1)
call(give_feedback, body=label)
for operation in (show_receipt, replay_prediction, explain_prediction):
    call(operation, answered.prediction_id)
call(show_features, 7)
for operation in (show_model, show_experiment, health, ready, show_metrics):
    call(operation)
print(json.dumps(found))
