"""What the database itself refuses: the invariants that one row can break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg
import pytest

from app.settings import Settings
from tests.support.model_server import ModelServer
from tests.support.populated import Project, copy_row, populate

ITEM = "UPDATE items SET {} WHERE id = {{accepted}}"
WAITING = "UPDATE items SET {} WHERE id = {{waiting}}"
PENDING = "UPDATE items SET {} WHERE id = {{pending}}"

# what the statement tries, the statement, the constraint that must refuse it
REFUSED = [
    # confidence is typed: a probability, or NULL with a reason
    ("confidence above 1", ITEM.format("confidence = 1.2"), "ck_items_confidence"),
    ("confidence below 0", ITEM.format("confidence = -1e-9"), "ck_items_confidence"),
    ("NaN as confidence", ITEM.format("confidence = 'NaN'"), "ck_items_confidence"),
    ("NULL without a reason", ITEM.format("confidence = NULL"), "ck_items_unknown_is_explicit"),
    (
        "a confidence with a reason why there is none",
        ITEM.format("unknown_reason = 'refusal'"),
        "ck_items_unknown_is_explicit",
    ),
    (
        "a reason before there was an answer",
        PENDING.format("unknown_reason = 'refusal'"),
        "ck_items_unknown_is_explicit",
    ),
    (
        "a confidence without its prediction",
        ITEM.format("prediction_id = NULL"),
        "ck_items_provenance",
    ),
    # states
    ("a state that is none", WAITING.format("state = 'lost'"), "ck_items_state"),
    ("labelling without a lease", PENDING.format("state = 'labeling'"), "ck_items_lease"),
    (
        "a lease without labelling",
        PENDING.format("lease_token = gen_random_uuid(), lease_expires_at = now()"),
        "ck_items_lease",
    ),
    (
        "a lease without an end",
        PENDING.format("state = 'labeling', lease_token = gen_random_uuid()"),
        "ck_items_lease",
    ),
    ("no due time", PENDING.format("next_attempt_at = NULL"), "next_attempt_at"),
    ("review without a route", PENDING.format("state = 'in_review'"), "ck_items_routed"),
    ("a route without a reason", ITEM.format("route_reason = NULL"), "ck_items_routed"),
    ("a route without its policy", ITEM.format("policy_id = NULL"), "ck_items_routed"),
    ("a final label in review", WAITING.format("final_label = 'ham'"), "ck_items_final_label"),
    ("accepted without a label", ITEM.format("final_label = NULL"), "ck_items_final_label"),
    ("a face the coin has not", ITEM.format("coin = 'edge'"), "ck_items_coin"),
    ("a rank of 1", ITEM.format("rank = 1"), "ck_items_rank"),
    ("a rank below 0", ITEM.format("rank = -0.1"), "ck_items_rank"),
    # a project's rows point only at its own
    (
        "the policy of another project",
        ITEM.format("policy_id = (SELECT policy_id FROM projects WHERE id = {other.id})"),
        "fk_items_policy_id",
    ),
    (
        "the prediction of another item",
        ITEM.format("prediction_id = (SELECT prediction_id FROM items WHERE id = {waiting})"),
        "fk_items_prediction_id",
    ),
    (
        "an item of no project",
        ITEM.format("project_id = gen_random_uuid()"),
        "fk_",
    ),
    (
        "a prediction of another project's item",
        copy_row("predictions", "item_id = {accepted}", item_id="{other.waiting}"),
        "fk_predictions_item",
    ),
    (
        "a prediction of another project's labeler",
        copy_row(
            "predictions",
            "item_id = {accepted}",
            labeler_id="(SELECT labeler_id FROM projects WHERE id = {other.id})",
        ),
        "fk_predictions_labeler_id",
    ),
    (
        "a prediction in another project's label schema",
        copy_row(
            "predictions",
            "item_id = {accepted}",
            label_schema_id="(SELECT label_schema_id FROM projects WHERE id = {other.id})",
        ),
        "fk_predictions_label_schema_id",
    ),
    (
        "another project's item in the queue",
        "UPDATE review_queue SET project_id = {other.id} WHERE item_id = {waiting}",
        "fk_review_queue_item",
    ),
    (
        "a slot taken by the assignment of another item",
        (
            "UPDATE review_queue SET assignment_id = (SELECT assignment_id FROM review_queue "
            "WHERE item_id = {leased}) WHERE item_id = {waiting}"
        ),
        "fk_review_queue_assignment_id",
    ),
    (
        "a review of another item's assignment",
        (
            "UPDATE reviews SET assignment_id = (SELECT assignment_id FROM review_queue WHERE "
            "item_id = {leased}) WHERE item_id = {completed}"
        ),
        "fk_reviews_assignment_id",
    ),
    (
        "a review that saw another item's prediction",
        (
            "UPDATE reviews SET prediction_id = (SELECT prediction_id FROM items WHERE id = "
            "{leased}) WHERE item_id = {completed}"
        ),
        "fk_reviews_prediction_id",
    ),
    (
        "a project with another's policy",
        (
            "UPDATE projects SET policy_id = (SELECT policy_id FROM projects WHERE id = "
            "{other.id}) WHERE id = {id}"
        ),
        "fk_projects_current_policy",
    ),
    (
        "a counter of no project",
        "INSERT INTO counter_deltas (project_id, name, delta) VALUES (gen_random_uuid(), 'x', 1)",
        "fk_counter_deltas_project_id_projects",
    ),
    (
        "an event of no project",
        (
            "INSERT INTO events (id, project_id, type, data) VALUES (gen_random_uuid(), "
            "gen_random_uuid(), 'item.routed', '{{}}')"
        ),
        "fk_events_project_id_projects",
    ),
    # one effect an item, one verdict a reviewer
    (
        "two live leases for one slot",
        copy_row("assignments", "item_id = {leased} AND state = 'leased'", reviewer="'another'"),
        "uq_assignments_live_slot",
    ),
    (
        "a queue slot twice",
        "INSERT INTO review_queue SELECT * FROM review_queue WHERE item_id = {waiting}",
        "pk_review_queue",
    ),
    (
        "a second verdict of a reviewer",
        copy_row("reviews", "item_id = {completed}", assignment_id="gen_random_uuid()"),
        "uq_reviews_item_id_reviewer_round",
    ),
    (
        "a second verdict of an assignment",
        copy_row("reviews", "item_id = {completed}", reviewer="'another'"),
        "uq_reviews_assignment_id",
    ),
    (
        "an open assignment that is closed",
        "UPDATE assignments SET closed_at = now() WHERE item_id = {leased} AND state = 'leased'",
        "ck_assignments_closed",
    ),
    (
        "a state no assignment has",
        "UPDATE assignments SET state = 'lost', closed_at = now() WHERE item_id = {leased}",
        "ck_assignments_state",
    ),
    (
        "an external id twice",
        "UPDATE items SET external_id = 'same' WHERE project_id = {id}",
        "uq_items_project_id_external_id",
    ),
    # predictions
    (
        "a confidence of no label",
        copy_row("predictions", "item_id = {accepted}", label="NULL"),
        "ck_predictions_confidence_of_a_label",
    ),
    (
        "a prediction without confidence or reason",
        copy_row("predictions", "item_id = {accepted}", confidence="NULL", score="NULL"),
        "ck_predictions_unknown_is_explicit",
    ),
    (
        "a confidence without the score that ranks it",
        copy_row("predictions", "item_id = {accepted}", score="NULL"),
        "ck_predictions_unknown_is_explicit",
    ),
    (
        "a predicted confidence of 1.2",
        copy_row("predictions", "item_id = {accepted}", confidence="1.2"),
        "ck_predictions_confidence",
    ),
    (
        "a final label that nobody gave",
        copy_row("final_labels", "item_id = {accepted}", prediction_id="NULL", review_id="NULL"),
        "ck_final_labels_provenance",
    ),
    # what was said stays as it was said
    (
        "a changed prediction",
        "UPDATE predictions SET label = 'ham' WHERE item_id = {accepted}",
        "rows of predictions are never updated",
    ),
    (
        "a changed policy",
        "UPDATE policies SET version = version + 1 WHERE project_id = {id}",
        "rows of policies are never updated",
    ),
    (
        "a changed labeler",
        "UPDATE labelers SET model = 'better' WHERE project_id = {id}",
        "rows of labelers are never updated",
    ),
    (
        "a changed label schema",
        "UPDATE label_schemas SET definition = '{{}}' WHERE project_id = {id}",
        "rows of label_schemas are never updated",
    ),
    (
        "a changed payload",
        "UPDATE item_payloads SET content = '{{}}' WHERE item_id = {accepted}",
        "rows of item_payloads are never updated",
    ),
    (
        "a changed final label",
        "UPDATE final_labels SET label = 'ham' WHERE item_id = {accepted}",
        "rows of final_labels are never updated",
    ),
    (
        "a changed event",
        "UPDATE events SET data = '{{}}' WHERE project_id = {id}",
        "rows of events are never updated",
    ),
    # projects, keys, versions
    (
        "chances of the coin above 1",
        "UPDATE projects SET audit_probability = 0.9, train_probability = 0.2 WHERE id = {id}",
        "ck_projects_coin",
    ),
    (
        "a review lease of no length",
        "UPDATE projects SET review_lease_seconds = 0 WHERE id = {id}",
        "ck_projects_review_lease",
    ),
    (
        "the same version of a policy twice",
        copy_row("policies", "project_id = {id}"),
        "uq_policies_project_id_version",
    ),
    ("a key without a scope", "UPDATE api_keys SET scopes = '{{}}'", "ck_api_keys_scopes"),
    ("a key with an unknown scope", "UPDATE api_keys SET scopes = '{{god}}'", "ck_api_keys_scopes"),
]


@dataclass(frozen=True)
class Ground:
    """A connection whose transaction is thrown away, and the words statements are put in."""

    connection: psycopg.Connection[tuple[object, ...]]
    words: dict[str, object]

    def run(self, statement: str) -> int:
        """How many rows it changed, with every deferred constraint looked at."""
        cursor = self.connection.execute(statement.format(**self.words).encode())
        self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return cursor.rowcount


class Quoted:
    """A project's ids as SQL literals."""

    def __init__(self, project: Project) -> None:
        vars(self).update({name: f"'{value}'" for name, value in vars(project).items()})


@pytest.fixture(scope="module")
async def populated(
    new_database: Callable[[], AbstractContextManager[str]],
    make_settings: Callable[..., Settings],
) -> AsyncIterator[tuple[str, Project, Project]]:
    with new_database() as url, ModelServer() as model:
        projects = await populate(make_settings(database_url=url, openai_base_url=model.url), model)
        yield url, *projects


@pytest.fixture
def ground(populated: tuple[str, Project, Project]) -> Iterator[Ground]:
    url, project, other = populated
    with psycopg.connect(url) as connection:
        yield Ground(connection, {**vars(Quoted(project)), "other": Quoted(other)})
        connection.rollback()


class TestTheDatabaseRefuses:
    @pytest.mark.parametrize(
        ("statement", "constraint"),
        [case[1:] for case in REFUSED],
        ids=[case[0] for case in REFUSED],
    )
    def test_(self, ground: Ground, statement: str, constraint: str) -> None:
        with pytest.raises(psycopg.errors.IntegrityError) as refused:
            ground.run(statement)
        assert constraint in str(refused.value)


class TestTheDatabaseAllows:
    @pytest.mark.parametrize(
        "statement",
        [
            ITEM.format("confidence = 0"),
            ITEM.format("confidence = 1"),
            "DELETE FROM projects WHERE id = {id}",
            "UPDATE assignments SET draft = '{{}}' WHERE item_id = {leased}",
            (
                "UPDATE projects SET review_lease_seconds = 86400, audit_probability = 1, "
                "train_probability = 0 WHERE id = {id}"
            ),
        ],
    )
    def test_what_is_right(self, ground: Ground, statement: str) -> None:
        assert ground.run(statement) > 0
