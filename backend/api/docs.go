package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
	swaggerfiles "github.com/swaggo/files"
	ginswagger "github.com/swaggo/gin-swagger"

	"kvstore/backend/docs"
)

//	@title			Versioned key-value store
//	@version		1.0
//	@description	A key-value store that keeps every version of every key. Errors are `application/problem+json` (RFC 9457);
//	@description	`code` is stable. Every answer carries `X-Request-Id`.
//	@license.name	MIT
//	@BasePath		/

// openAPI serves the document that swag generates from the annotations.
//
//	@Summary	The OpenAPI document
//	@Tags		operation
//	@Produce	json
//	@Success	200	{object}	object
//	@Router		/openapi.json [get]
//	@Router		/openapi.json [head]
func (a *API) openAPI(c *gin.Context) error {
	writeBody(c, []byte(docs.SwaggerInfo.ReadDoc()))
	return nil
}

// docsIndex leads to the page of the Swagger UI.
//
//	@Summary	The Swagger UI of this document
//	@Tags		operation
//	@Produce	html
//	@Success	307	{string}	string	"The page is /docs/index.html"
//	@Router		/docs [get]
//	@Router		/docs [head]
func (a *API) docsIndex(c *gin.Context) error {
	c.Redirect(http.StatusTemporaryRedirect, "/docs/index.html")
	return nil
}

// swaggerUI serves the page. The library refuses HEAD, for which a GET does as
// well, since the server sends no body.
func swaggerUI() gin.HandlerFunc {
	serve := ginswagger.WrapHandler(swaggerfiles.Handler, ginswagger.URL("/openapi.json"))
	return func(c *gin.Context) {
		c.Request.Method = http.MethodGet
		serve(c)
	}
}
