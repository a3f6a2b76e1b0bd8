"""Run a DAG in this process, whatever file it lies in.

`dag.test()` runs the tasks and their triggers inline, through the real task runner. It wants the DAG in the
database; for one that lies in no DAG folder this puts it there.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

BUNDLE = "tests"


@dataclass(frozen=True)
class Run:
    """A finished run of a DAG."""

    dag_id: str
    run_id: str
    state: str

    def task_state(self, task_id: str, map_index: int = -1) -> str | None:
        """State of one task instance."""
        return self._instance(task_id, map_index).state

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task instance pushed."""
        from airflow.models.xcom import XComModel

        values = XComModel.get_many(
            run_id=self.run_id, dag_ids=self.dag_id, task_ids=task_id, key=key, map_indexes=map_index
        )
        return XComModel.deserialize_value(self._one(values))

    def rendered(self, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """The task's fields as the UI shows them after rendering."""
        from airflow.models.renderedtifields import RenderedTaskInstanceFields

        fields = RenderedTaskInstanceFields.get_templated_fields(self._instance(task_id, map_index))
        return dict(fields or {})

    def _instance(self, task_id: str, map_index: int) -> Any:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import select

        wanted = select(TaskInstance).where(
            TaskInstance.dag_id == self.dag_id,
            TaskInstance.run_id == self.run_id,
            TaskInstance.task_id == task_id,
            TaskInstance.map_index == map_index,
        )
        return self._one(wanted)

    @staticmethod
    def _one(statement: Any) -> Any:
        from airflow.utils.session import create_session

        with create_session() as session:
            row = session.scalars(statement).first()
            session.expunge_all()
        assert row is not None, "no such row"
        return row


def load(file: str | Path) -> DAG:
    """The DAG of a file that has one.

    Raises:
        ValueError: For a file without a DAG, or with several.
    """
    from airflow.sdk import DAG

    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    found = [value for value in vars(module).values() if isinstance(value, DAG)]
    if len(found) != 1:
        raise ValueError(f"{path} has {len(found)} DAGs; give the one that is meant instead of the file")
    return found[0]


def run_dag(dag: DAG, conf: dict[str, Any] | None = None) -> Run:
    """Run a DAG to its end; a failed task is no exception here, see the state."""
    store_dag(dag)
    run = dag.test(run_conf=conf)
    return Run(dag.dag_id, run.run_id, str(run.state))


def store_dag(dag: DAG) -> None:
    """Put a DAG into the database, as the DAG processor does."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))
        session.flush()
        lazy = LazyDeserializedDAG.from_dag(dag)
        _serialized_dag_class().bulk_write_to_db(BUNDLE, None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name=BUNDLE, session=session)


def _serialized_dag_class() -> Any:
    try:
        from airflow.serialization.definitions.dag import SerializedDAG
    except ImportError:  # Airflow 3.1
        from airflow.serialization.serialized_objects import SerializedDAG
    return SerializedDAG
