"""JSON Schemas of the documents that Phiscope writes."""

from typing import Any

from fastapi import APIRouter
from pydantic import JsonValue

from service.report.document import Report

router = APIRouter(prefix="/v1/schemas", tags=["schemas"])

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@router.get("/report")
async def get_report_schema() -> dict[str, JsonValue]:
    """Return the JSON Schema of the report; every figure carries its metric card."""
    schema: dict[str, Any] = Report.model_json_schema(mode="serialization")
    return {"$schema": JSON_SCHEMA_DIALECT, **schema}
